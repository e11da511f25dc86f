"""Timing a call, cases in processes of their own, and results with what they were measured on."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json
from longalign.base.machine import describe_machine

RESULTS = Path(__file__).parent / "results"

Measured = dict[str, Any]
"""What one case gave: names with units, values that JSON knows."""


def timed(call: Callable[[], Any], repeats: int = 3) -> tuple[Any, dict[str, float]]:
    """Result and the fastest of `repeats` runs: `wall_s`, and `cpu_s`, which a busy machine disturbs less."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return result, {"wall_s": round(min(walls), 4), "cpu_s": round(min(cpus), 4), "repeats": repeats}


def timed_with_peak(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Result of one run: `wall_s`, `cpu_s`, and `peak_mib`, the process's peak above what it held before. Linux."""
    before = _resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the kernel's record of the peak
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, {"wall_s": wall, "cpu_s": cpu, "peak_mib": _resident_mib("VmHWM") - before}


def _resident_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def in_process(
    module: str, case: object, *, environment: Mapping[str, str] | None = None, timeout_s: float | None = None
) -> Measured:
    """What `python -m MODULE --one CASE` prints last, with the case as JSON. Raises as `subprocess.run` does."""
    command = [sys.executable, "-m", module, "--one", json.dumps(case)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=timeout_s, env=os.environ | (environment or {})
    )
    found: Measured = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@dataclass(frozen=True)
class CaseRuns:
    """Every run of every case, and the asked command line."""

    runs: dict[str, list[Measured]]
    asked: argparse.Namespace

    @property
    def best(self) -> dict[str, Measured]:
        """The run of each case that took the least processor time."""
        return {name: min(found, key=lambda run: run["cpu_s"]) for name, found in self.runs.items()}


def run_cases(
    module: str,
    description: str,
    cases: Mapping[str, tuple[Any, ...]],
    measure: Callable[..., Measured],
    *,
    environment: Mapping[str, str] | None = None,
) -> CaseRuns:
    """The command line of a benchmark that measures every case in processes of its own: `--threads`, `--repeats`.

    `measure(*case, threads)` gives at least `wall_s`, `cpu_s` and `peak_mib`. With `--one CASE` this is the process of
    that case: it prints what was measured and ends. `environment` is added to that of each case.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="", help="kept with the results, such as what else ran")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(*json.loads(asked.one))))
        sys.exit()
    runs: dict[str, list[Measured]] = {name: [] for name in cases}
    for _ in range(asked.repeats):  # in turn, so that a busy minute does not meet one method only
        for name, case in cases.items():
            last = in_process(module, [*case, asked.threads], environment=environment)
            runs[name].append(last)
            times = f"{last['wall_s']:7.2f} s  {last['cpu_s']:7.2f} s cpu"
            print(f"{name:40} {times}  {last['peak_mib']:8.0f} MiB", flush=True)
    return CaseRuns(runs, asked)


def write_result(name: str, claim: str, rows: object, *, folder: Path = RESULTS, **more: object) -> None:
    """`NAME.json` in `folder`: the claim, the rows, and machine, versions, commit, load and date."""
    measured_on: Mapping[str, Any] = describe_machine() | {
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "date": datetime.now(UTC).date().isoformat(),
    }
    path = folder / f"{name}.json"
    atomic_write_json(path, {"claim": claim, "rows": rows, **more, "measured_on": measured_on})
    print(f"wrote {path}")
