"""`Placement`: this process's parallel mode, device, dtype, token limit and group.

It is resolved from the settings once, when a stage starts; everything after that takes the `Placement`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from longalign.config import LoopSettings
from longalign.config.execution import Parallel
from longalign.config.plan import microbatch_tokens, parallel_of
from longalign.errors import ConfigError
from longalign.train.parallel import ranks
from longalign.train.parallel.ulysses import SequenceParallel


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One rank's part.

    mode: how ranks share weights. dtype: precision of compute; weights that train are float32 below it (float64 with
    it). token_limit: tokens of a `balanced` microbatch. group: the ranks that share this rank's packs, once joined.
    """

    mode: Parallel
    device: torch.device
    dtype: torch.dtype
    rank: int
    world_size: int
    sequence_parallel: int
    token_limit: int
    gradient_checkpointing: bool
    cpu_offload: bool
    group: SequenceParallel | None = None

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def sharded(self) -> bool:
        """Whether FSDP2 splits the weights, also on one rank."""
        return self.mode == "fsdp2"

    @property
    def whole(self) -> bool:
        """Whether every rank has the whole weights."""
        return self.mode in ("none", "ddp")

    @property
    def sync(self) -> Literal["microbatch", "step"]:
        """Where ranks wait for each other: split weights are gathered in every microbatch."""
        return "step" if self.whole else "microbatch"

    @property
    def data_rank(self) -> int:
        """Number of the group whose packs this rank runs."""
        return self.rank // self.sequence_parallel

    @property
    def part(self) -> tuple[int, int]:
        """(which, of how many) parts of its packs this rank runs."""
        return (self.group.rank, self.group.degree) if self.group else (0, 1)

    def weight_dtype(self, *, frozen: bool = False) -> torch.dtype:
        """Weights that train are float32 or float64 (autocast computes in `dtype`); frozen ones are kept in `dtype`."""
        return self.dtype if frozen or self.dtype == torch.float64 else torch.float32

    def autocast(self) -> torch.autocast:
        """Autocast to bfloat16 where that is the precision of compute; does nothing otherwise.

        Without autocast's cache: it would keep the cast copy of every weight until the end of a forward pass, 2 bytes a
        parameter, to spare casts of weights that are used twice, which none are.
        """
        half = self.dtype == torch.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False)


def join(settings: LoopSettings) -> Placement:
    """The placement of this process, which joins its process group and its sequence-parallel group.

    Every rank calls it, once. Raises as `place` does.
    """
    placement = place(settings)
    ranks.start(alone=placement.sharded)
    if placement.sequence_parallel == 1:
        return placement
    return replace(placement, group=SequenceParallel.start(placement.sequence_parallel))


def place(settings: LoopSettings) -> Placement:
    """The placement of this process, as torchrun and the machine have it; nothing is started.

    Raises `ConfigError` for what the number of ranks excludes.
    """
    device = ranks.this_device()
    on_gpu = device.type == "cuda"
    dtype = {"float64": torch.float64, "bfloat16": torch.bfloat16 if on_gpu else torch.float32}
    return Placement(
        mode=_mode(settings, on_gpu=on_gpu),
        device=device,
        dtype=dtype.get(settings.dtype, torch.float32),
        rank=ranks.rank(),
        world_size=ranks.world_size(),
        sequence_parallel=settings.sequence_parallel,
        token_limit=microbatch_tokens(settings, on_gpu=on_gpu),
        # recomputing is for GPU memory; a CPU has enough and would only lose a third of its speed
        gradient_checkpointing=on_gpu if settings.gradient_checkpointing is None else settings.gradient_checkpointing,
        cpu_offload=settings.cpu_offload,
    )


def _mode(settings: LoopSettings, *, on_gpu: bool) -> Parallel:
    """`settings.parallel`, or what suits the machine; refuses what the number of ranks excludes."""
    count = ranks.world_size()
    how = parallel_of(settings, ranks=count, on_gpu=on_gpu)
    if how == "none" and count > 1:
        raise ConfigError(f"parallel: none, but {count} processes were started; use ddp, fsdp2 or deepspeed")
    if how == "ddp" and count == 1:
        return "none"
    if count % settings.sequence_parallel:
        raise ConfigError(f"sequence_parallel: {settings.sequence_parallel} does not divide {count} ranks")
    return how
