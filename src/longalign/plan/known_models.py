"""The shape of a model by its name: named shapes, local configs, files fetched earlier, and last the network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from longalign.base.sources import model_dir
from longalign.core.model_shape import HUB_SHAPES, SHAPES, ModelShape
from longalign.errors import ConfigError


def model_shape(name: str) -> ModelShape:
    """A named shape, or what a model directory, a config.json or a hub id says. Raises ConfigError.

    The network is asked only for a hub id whose config was never fetched and whose shape is not known either.
    """
    if name in SHAPES:
        return SHAPES[name]
    path = Path(name) if Path(name).is_file() else local_file(name, "config.json")
    if path is not None:
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a readable config.json ({error})") from None
        return ModelShape.from_config(config, name)
    if name.lower() in HUB_SHAPES:
        return replace(SHAPES[HUB_SHAPES[name.lower()]], name=name)
    if name.startswith(("/", ".")) or name.count("/") != 1:
        raise ConfigError(f"model_shape: {name!r} is no directory, config.json or one of {', '.join(SHAPES)}")
    from transformers import AutoConfig

    try:
        return ModelShape.from_config(AutoConfig.from_pretrained(name).to_dict(), name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model_shape: cannot fetch the config of {name} ({str(error).splitlines()[0]})") from None


def local_file(name: str, file: str) -> Path | None:
    """`file` of a model directory, bundled model or hub id whose file was fetched before; None where it is not here.

    Raises `ConfigError` for a `builtin:` name that does not exist.
    """
    folder = Path(model_dir(name))
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    if name.startswith(("/", ".")) or name.count("/") != 1:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file)
    return Path(found) if isinstance(found, str) else None
