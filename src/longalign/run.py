"""A stage's folder: fingerprint, lock, manifest, atomic writes, resume.

Every stage is `with open_stage(...) as stage: if stage.done: return stage.summary ... stage.finish(summary)`.
The fingerprint hashes settings, inputs and the stage's code version. Inputs count by name and content, not by
where they lie, so a run folder may be moved or named from another directory. A folder that carries the
fingerprint is finished work and is skipped; one that carries it without a summary is continued; one of other
settings is set aside under `superseded/`, never deleted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import BaseModel

from longalign.errors import RunError
from longalign.machine import describe_machine

MANIFEST = "stage.json"


def fingerprint(*parts: object) -> str:
    """SHA-256 of the canonical JSON of `parts`."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_path(path: str | Path) -> str:
    """SHA-256 over names and contents of a file or of every file below a folder."""
    path = Path(path)
    if not path.exists():
        raise RunError(f"{path}: no such file or folder")
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else files_below(path):
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in the order of sorted paths; one folder's names are in memory, not all paths."""
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from files_below(path)


def random_for(seed: int, *key: str | int) -> np.random.Generator:
    """A generator that depends on the seed and a key only, so order and parallelism cannot change a draw."""
    return np.random.default_rng(int(fingerprint(seed, *key)[:32], 16))


def make_folder(folder: Path) -> None:
    """Make an output folder and the folders above it; `RunError` says what is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise RunError(f"{folder}: cannot be a folder, because {file} is a file; choose another --out") from None
    except OSError as error:
        raise _cannot_write(folder, error) from None


def _cannot_write(folder: Path, error: OSError) -> RunError:
    return RunError(f"{folder}: cannot be written ({error.strerror}); choose another --out")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write a file or folder into; renamed onto `path` on success."""
    path = Path(os.path.abspath(path))  # also `.` and `..` have a name then
    make_folder(path.parent)
    try:
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _cannot_write(path.parent, error) from None
    try:
        temporary = holder / path.name
        yield temporary
        if temporary.is_file():
            if path.is_dir():
                raise RunError(f"{path}: is a folder; name a file to write")
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        elif path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _fsync_folder(path.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write a whole text file or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def atomic_write_json(path: str | Path, value: object) -> None:
    """Write a whole JSON file or nothing; NaN is refused, since JSON has none."""
    atomic_write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """Append one row and flush it to disk; a torn line left by a kill is ended first."""
    path = Path(path)
    make_folder(path.parent)
    with path.open("ab+") as stream:
        if stream.tell() > 0:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """All whole rows of an append-only log; lines torn by a kill are passed over. No file, no rows."""
    path = Path(path)
    rows = []
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                rows.append(cast(dict[str, Any], json.loads(line)))
            except ValueError:
                continue
    return rows


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
        raise _cannot_write(folder, error) from None
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


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
