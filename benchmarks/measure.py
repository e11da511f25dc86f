"""Timing a call, and writing what was measured with what it was measured on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json
from longalign.base.machine import describe_machine

RESULTS = Path(__file__).parent / "results"


def timed(call: Callable[[], Any], repeats: int = 3) -> tuple[Any, dict[str, float]]:
    """Result and the fastest of `repeats` runs: `wall_s`, and `cpu_s`, which a busy machine disturbs less."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return result, {"wall_s": round(min(walls), 4), "cpu_s": round(min(cpus), 4), "repeats": repeats}


def write_result(name: str, claim: str, rows: object, *, folder: Path = RESULTS, **more: object) -> None:
    """`NAME.json` in `folder`: the claim, the rows, and machine, versions, commit, load and date."""
    measured_on: Mapping[str, Any] = describe_machine() | {
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "date": datetime.now(UTC).date().isoformat(),
    }
    path = folder / f"{name}.json"
    atomic_write_json(path, {"claim": claim, "rows": rows, **more, "measured_on": measured_on})
    print(f"wrote {path}")
