"""How many threads torch computes with, measured once per run folder and kept there.

More threads are not always faster: two OpenMP threads on a machine with one busy core ran twenty times slower than
one. And sums depend on how they are split, so a resumed run must compute with the count it began with.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch

from longalign.base.files import atomic_write_json


def choose_threads(folder: Path) -> int:
    """Set torch's thread count: what `folder/threads.json` says, else OMP_NUM_THREADS, else the faster by trial."""
    path = folder / "threads.json"
    if path.exists():
        threads = int(json.loads(path.read_text(encoding="utf-8"))["threads"])
        why = "kept"
    elif os.environ.get("OMP_NUM_THREADS"):
        threads, why = torch.get_num_threads(), "OMP_NUM_THREADS"
    else:
        threads, why = fastest(sorted({1, torch.get_num_threads()})), "measured"
    torch.set_num_threads(threads)
    if why != "kept":
        atomic_write_json(path, {"threads": threads, "chosen_by": why})
    return threads


def fastest(candidates: list[int], repeats: int = 5) -> int:
    """The candidate whose slowest of a few trials is best; a busy core shows in the slowest."""
    if len(candidates) == 1:
        return candidates[0]
    left, right = torch.ones(384, 512), torch.ones(512, 512)
    worst = {}
    for threads in candidates:
        torch.set_num_threads(threads)
        torch.mm(left, right)
        times_s = []
        for _ in range(repeats):
            start_s = time.perf_counter()
            for _ in range(6):
                torch.mm(left, right).tanh_()
            times_s.append(time.perf_counter() - start_s)
        worst[threads] = max(times_s)
    return min(candidates, key=lambda threads: worst[threads])
