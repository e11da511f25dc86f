"""Random draws that do not depend on what was drawn before, and leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from longalign.train import ranks


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws on the CPU and on this process's GPU come from `seed`; after it the generators are where they were.

    Only this GPU's: torch's own default also visits those of other processes, and warns of it.
    """
    device = ranks.this_device()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
