"""Length mixes for tests and benchmarks of planning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def longalign_mix(rows: int, seed: int = 0, long_share: float = 1 / 8) -> NDArray[np.int64]:
    """As in the paper: long rows even over 8k-64k, the rest chats below 8k (log-normal, median 900), shuffled."""
    rng = np.random.default_rng(seed)
    long = rng.integers(8192, 65537, round(rows * long_share))
    short = np.clip(rng.lognormal(np.log(900), 1.0, rows - len(long)), 16, 8191).astype(np.int64)
    lengths = np.concatenate([long, short])
    rng.shuffle(lengths)
    return lengths


def targets_for(lengths: NDArray[np.int64], seed: int = 0, without_share: float = 0.0) -> NDArray[np.int64]:
    """Short answers to long prompts, half of the tokens of a chat, and some rows without targets."""
    rng = np.random.default_rng([seed, 1])
    targets = np.where(lengths > 8192, rng.integers(50, 600, len(lengths)), (lengths + 1) // 2)
    targets[rng.random(len(lengths)) < without_share] = 0
    return np.minimum(targets, lengths)
