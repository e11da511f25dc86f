"""A stage's folder: fingerprint, lock, manifest, atomic writes, resume.

Every stage is `with open_stage(...) as stage: if stage.done: return stage.summary ... stage.finish(summary)`.
A finished folder is skipped and an unfinished one is resumed, unless something that decides the result has changed
(base/same_result.py). Then its outputs move to `superseded/`, nothing is deleted, and a line says what changed.
Checkpoints move only with `--restart`; without it such a change is an error.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from pydantic import BaseModel

from longalign.base.files import atomic_write_json, cannot_write, make_folder
from longalign.base.machine import describe_machine
from longalign.base.progress import say
from longalign.base.same_result import changed, stamp_of
from longalign.errors import RunError

MANIFEST = "stage.json"
SCHEMA = 2
"""1 (unwritten): the fingerprint covered every setting. 2: only those that decide the result."""
LEDGER = re.compile(r"ledger\.sqlite(-wal|-shm)?$")


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
        """The summary of the finished stage."""
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
    out: Path,
    name: str,
    *,
    settings: BaseModel,
    inputs: Mapping[str, str],
    version: int,
    restart: bool = False,
    outputs: Sequence[Path] | None = None,
) -> Iterator[StageRun]:
    """Open the folder of one stage under a lock.

    `inputs` maps what the stage reads (a path, or the setting that names it) to content fingerprints; `version` counts
    changes of the stage's code that change its result. `restart` allows checkpoints of other settings to be set aside.
    `outputs`: the manifest and what else belongs to the settings, where that is not all in the folder but ledgers.
    Raises `RunError` when another process holds the folder, when it cannot be written, or when it has checkpoints of
    other settings and `restart` is not set.
    """
    make_folder(out)
    with lock(out):
        manifest = read_manifest(out)
        if manifest and (changes := changed(manifest, name, settings, inputs, version)):
            _make_way(out, manifest, changes, restart=restart, outputs=outputs)
            manifest = None
        dumped = settings.model_dump(mode="json")
        if manifest is None:
            manifest = {
                "schema": SCHEMA,
                "stage": name,
                "version": version,
                "fingerprint": stamp_of(name, settings, inputs, version),
                "status": "running",
                "settings": dumped,
                "inputs": dict(inputs),
                "started_at": _now(),
                "wall_s": 0.0,
                "machine": describe_machine(),
            }
        stage = StageRun(out, manifest)
        if stage.done:
            yield stage
            return
        if manifest["settings"] != dumped:  # of execution or reporting: the latest are what it runs with
            manifest |= {"settings": dumped, "resumed_at": _now()}
        stage.save()
        start, before = time.monotonic(), float(manifest["wall_s"])
        try:
            yield stage
        finally:  # a killed attempt's seconds are lost, so wall_s is a lower bound after a kill
            manifest["wall_s"] = round(before + time.monotonic() - start, 3)
            stage.save()


def _make_way(
    out: Path, manifest: Mapping[str, Any], changes: Sequence[str], *, restart: bool, outputs: Sequence[Path] | None
) -> None:
    """Set work of other settings aside, with a line that says so; checkpoints only on demand."""
    kept = len(list((out / "checkpoints").glob("*/")))
    if kept and not restart:
        raise RunError(
            f"{out}: {'; '.join(changes)}. Checkpoints of the earlier run are here ({kept}): go back to the old value "
            "to carry on, or add --restart to begin anew (they move to superseded/), or choose another --out"
        )
    attic = set_aside(out, manifest, outputs)
    say(f"note: {out}: {'; '.join(changes)}; the earlier outputs are in {attic}")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a stage folder, or None where there is none. Those of earlier versions are read as they are."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise RunError(f"{path}: damaged manifest; move the folder away and run the stage again") from None
    if manifest.get("schema", 1) > SCHEMA:
        raise RunError(f"{path}: written by a newer LongAlign (schema {manifest['schema']}); install that version")
    return manifest


@contextmanager
def place_to_plan(out: Path) -> Iterator[Path]:
    """Where a plan's files go: into the folder that the stage will have, or, where a stage has been, into a temporary
    one beside it (which nodes share), so that a plan changes nothing."""
    if read_manifest(out) is None:
        make_folder(out)
        yield out
        return
    with TemporaryDirectory(prefix=f".{out.absolute().name}.plan.", dir=out.absolute().parent) as folder:
        yield Path(folder)


def set_aside(folder: Path, manifest: Mapping[str, Any], outputs: Sequence[Path] | None = None) -> Path:
    """Move outputs (default: all in the folder) into `superseded/`, so that nothing is mixed and nothing is lost.

    Ledgers of paid replies stay: they are keyed by what was asked, so whatever is asked again is not paid again."""
    attic = folder / "superseded" / f"{manifest['fingerprint'][:12]}-{int(time.time() * 1000)}"
    attic.mkdir(parents=True)
    stays = ("superseded", ".lock")
    inside = [path for path in folder.iterdir() if path.name not in stays and not LEDGER.search(path.name)]
    for path in inside if outputs is None else outputs:
        if path.exists():
            os.replace(path, attic / path.name)
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
