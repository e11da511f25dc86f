"""The files of one build: where they lie, when they are finished, how they are replaced."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from longalign.base.files import atomic_path, atomic_write_text, fingerprint, fingerprint_path
from longalign.base.progress import say
from longalign.base.sources import model_dir
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.errors import ConfigError, RunError
from longalign.llm.offline import NAME
from longalign.llm.open import is_endpoint
from longalign.llm.prompt import LANGUAGES, prompt_hash

VERSION = 1
MARKER = "building"
NOT_IN_RESULT = {"concurrency", "timeout_s", "max_cost_usd", "price_usd_per_million"}
READ_AS_CONTENT = {"documents", "decontaminate", "tokenizer", "llm"}


@dataclass(frozen=True)
class Paths:
    """The files of one build."""

    rows: Path
    rejected: Path
    report: Path
    ledger: Path
    work: Path

    @classmethod
    def of(cls, out: Path) -> Paths:
        """Files beside `out`, which must be a .jsonl file."""
        if out.suffix != ".jsonl" or out.is_dir():
            raise ConfigError(f"--out {out}: must be a .jsonl file, for example {out.with_suffix('')}.jsonl")
        stem = out.with_suffix("")
        names = (f"{stem.name}{suffix}" for suffix in (".rejected.jsonl", ".report.json", ".ledger.sqlite", ".work"))
        return cls(out, *(out.parent / name for name in names))


def stamp_of(settings: DataSettings, sources: str, counter: TokenCounter) -> str:
    """What decides the result: settings, contents of documents and tokenizer, the model, the wording of the prompts."""
    return fingerprint(
        "data",
        VERSION,
        settings.model_dump(mode="json", exclude=NOT_IN_RESULT | READ_AS_CONTENT),
        sources,
        counter.fingerprint,
        _model_stamp(settings.llm),
        [prompt_hash(language) for language in LANGUAGES],
    )


def _model_stamp(spec: str) -> str:
    """What names the model for the result: its weights where they are here, else its name without the address."""
    if is_endpoint(spec):
        return spec.rpartition("@")[0] or spec
    if spec == "offline":
        return NAME
    folder = Path(model_dir(spec.removeprefix("hf:")))
    return fingerprint_path(folder) if folder.exists() else spec


def finished(paths: Paths, stamp: str) -> dict[str, Any] | None:
    """The report of a finished build of exactly this, whose rows are still what was written."""
    report = _read_report(paths)
    if report and report.get("finished") and report.get("fingerprint") == stamp and paths.rows.exists():
        if report["rows_sha256"] == sha256(paths.rows):
            return report | {"out": str(paths.rows)}  # where they lie now; a folder may be moved
        say(f"{paths.rows} was changed since it was built; it is set aside and built again")
    return None


def set_aside(paths: Paths, stamp: str) -> None:
    """Move rows of other settings away, and mark what comes as ours; a file that no build wrote is never touched."""
    report = _read_report(paths)
    marker = paths.work / MARKER
    owner = report.get("fingerprint") if report else marker.read_text(encoding="utf-8") if marker.exists() else None
    if owner is None and paths.rows.exists():
        raise RunError(f"{paths.rows}: exists and was not written by `data build`; choose another --out")
    if owner is not None and (owner != stamp or (report and report.get("finished"))):
        attic = paths.work / "superseded" / f"{owner[:12]}-{int(time.time() * 1000)}"
        attic.mkdir(parents=True)
        for path in (paths.rows, paths.rejected, paths.report):
            if path.exists():
                os.replace(path, attic / path.name)
    atomic_write_text(marker, stamp)


def _read_report(paths: Paths) -> dict[str, Any] | None:
    try:
        return cast(dict[str, Any], json.loads(paths.report.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValueError:
        raise RunError(f"{paths.report}: damaged report; move it away and run again") from None


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file of rows or nothing."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
