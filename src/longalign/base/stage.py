"""A stage's folder: fingerprint, lock, manifest, atomic writes, resume.

Every stage is `with open_stage(...) as stage: if stage.done: return stage.summary ... stage.finish(summary)`.
The fingerprint hashes settings, inputs and the stage's code version. Inputs count by name and content, not by
where they lie, so a run folder may be moved or named from another directory. A folder that carries the
fingerprint is finished work and is skipped; one that carries it without a summary is continued; one of other
settings is set aside under `superseded/`, never deleted.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from longalign.base.files import atomic_write_json, cannot_write, fingerprint, make_folder
from longalign.base.machine import describe_machine
from longalign.errors import RunError

MANIFEST = "stage.json"


@dataclass
class StageRun:
    """An open stage: its folder, and its summary once it is done."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def done(self) -> bool:
        return bool(self.manifest["status"] == "done")

    @property
    def summary(self) -> dict[str, Any]:
        """What the finished stage returned."""
        return cast(dict[str, Any], self.manifest["summary"])

    def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Record the summary; from now on the stage is skipped. Returns the summary."""
        self.manifest |= {"status": "done", "finished_at": _now(), "summary": dict(summary)}
        self.save()
        return self.summary

    def save(self) -> None:
        """Write the manifest."""
        atomic_write_json(self.folder / MANIFEST, self.manifest)


@contextmanager
def open_stage(
    out: Path, name: str, *, settings: BaseModel, inputs: Mapping[str, str], version: int
) -> Iterator[StageRun]:
    """Open the folder of one stage under a lock.

    `inputs` maps what the stage reads (a path, or the setting that names it) to content fingerprints; `version` counts
    changes of the stage's code that change its result. Raises `RunError` when another process holds the folder, or it
    cannot be written.
    """
    make_folder(out)
    read = {path: f"{Path(path).name}@{content}" for path, content in inputs.items()}
    stamp = fingerprint(name, _by_content(settings.model_dump(mode="json"), read), sorted(read.values()), version)
    with lock(out):
        manifest = read_manifest(out)
        if manifest and manifest["fingerprint"] != stamp:
            set_aside(out, manifest)
            manifest = None
        if manifest is None:
            manifest = {
                "stage": name,
                "fingerprint": stamp,
                "status": "running",
                "settings": settings.model_dump(mode="json"),
                "inputs": dict(inputs),
                "started_at": _now(),
                "wall_s": 0.0,
                "machine": describe_machine(),
            }
        stage = StageRun(out, manifest)
        if stage.done:
            yield stage
            return
        stage.save()
        start, before = time.monotonic(), float(manifest["wall_s"])
        try:
            yield stage
        finally:  # a killed attempt's seconds are lost, so wall_s is a lower bound after a kill
            manifest["wall_s"] = round(before + time.monotonic() - start, 3)
            stage.save()


def _by_content(value: Any, read: Mapping[str, str]) -> Any:
    """Settings with each input's path replaced by its name and content, wherever it stands: as key, field or item."""
    if isinstance(value, dict):
        named = {key: read[key] if key in read and isinstance(item, str) else item for key, item in value.items()}
        return [[read.get(key, key), _by_content(item, read)] for key, item in named.items()]
    if isinstance(value, list):
        return [_by_content(item, read) for item in value]
    return read.get(value, value) if isinstance(value, str) else value


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a stage folder, or None where there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise RunError(f"{path}: damaged manifest; move the folder away and run the stage again") from None


def set_aside(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Move the outputs of other settings into `superseded/`, so that nothing is mixed and nothing is lost."""
    attic = folder / "superseded" / f"{manifest['fingerprint'][:12]}-{int(time.time() * 1000)}"
    attic.mkdir(parents=True)
    for entry in folder.iterdir():
        if entry.name not in ("superseded", ".lock"):
            os.replace(entry, attic / entry.name)
    return attic


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; the lock dies with the process, also by `kill -9`."""
    try:
        opened = (folder / ".lock").open("a+")
    except OSError as error:
        raise cannot_write(folder, error) from None
    with opened as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise RunError(f"{folder}: in use by {holder}; wait for it or choose another --out") from None
        stream.truncate(0)
        stream.write(f"process {os.getpid()}")
        stream.flush()
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
