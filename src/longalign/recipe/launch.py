"""Runs a training stage in several processes, one an accelerator, which torchrun starts and watches.

The processes read the stage's settings from a file, so stage and fingerprint equal those of a run in one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from longalign.base.files import atomic_write_json
from longalign.base.stage import read_manifest
from longalign.config import ExtendSettings, TrainSettings
from longalign.errors import ConfigError, RunError

PATIENCE_S = 60.0


def run_stage(
    verb: Literal["extend", "train"],
    settings: ExtendSettings | TrainSettings,
    out: Path,
    *,
    processes: int,
    restart: bool = False,
) -> dict[str, Any]:
    """The summary of stage `verb` with these settings in `out`, run by `processes` processes on this machine.
    `restart` allows checkpoints of other settings to be set aside.

    Raises the stage's own errors with one process; `RunError` when one of several processes fails.
    """
    if processes == 1:
        return _in_this_process(settings, out, restart=restart)
    with tempfile.TemporaryDirectory(prefix="longalign-") as folder:
        file = Path(folder) / "settings.json"
        atomic_write_json(file, settings.model_dump(mode="json"))
        status = _wait(command(verb, file, out, processes, restart=restart), environment(processes))
    if status != 0:
        raise RunError(f"{out}: {verb} in {processes} processes ended with exit code {status}; its messages are above")
    manifest = read_manifest(out)
    if manifest is None or manifest["status"] != "done":
        raise RunError(f"{out}: {verb} in {processes} processes ended without a result; its messages are above")
    summary: dict[str, Any] = manifest["summary"]
    return summary


def command(verb: str, file: Path, out: Path, processes: int, *, restart: bool = False) -> list[str]:
    """The command that starts the processes; `file` holds the settings."""
    start = [sys.executable, "-m", "longalign.recipe.torchrun", "--standalone", "--nproc-per-node", str(processes)]
    return [
        *start,
        "-m",
        "longalign",
        verb,
        "--settings",
        str(file),
        "--out",
        str(out),
        *(["--restart"] if restart else []),
    ]


def environment(processes: int) -> dict[str, str]:
    """This environment, with the cores shared out among the processes unless somebody has decided already."""
    threads = max((os.cpu_count() or 1) // processes, 1)
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def refuse_torchrun() -> None:
    """Raise `ConfigError` when torchrun has started this process: a whole recipe starts its processes itself."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "`longalign run` starts its own processes: call it once, without torchrun, with processes_per_node set; "
            "or start `longalign extend` and `longalign train` with torchrun (docs/guide/launch.md)"
        )


def _in_this_process(settings: ExtendSettings | TrainSettings, out: Path, *, restart: bool) -> dict[str, Any]:
    if isinstance(settings, ExtendSettings):
        from longalign.train.extend import extend

        return extend(settings, out, restart=restart)
    from longalign.train.sft import train

    return train(settings, out, restart=restart)


def _wait(command: list[str], environment: dict[str, str]) -> int:
    """Exit code. The processes write to stderr; an interrupt ends them before this returns."""
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun passes it on to every process
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
