"""A step of the plan as the tensors that one rank runs: microbatches of segments, with final loss weights.

Both layouts are laid end to end on one axis with segment boundaries. In the padded layout each row is a segment of
its own, filled up to the longest of the microbatch: the model computes on the padding, as naive batching does, and
nothing else changes. Filling is on the right, so causal attention never lets a real token see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from longalign.core.step_plan import Step, StepPlan
from longalign.core.weighting import WeightSchedule
from longalign.data.tokenize import TokenSequence
from longalign.train.loss import IGNORE


class Sequences(Protocol):
    """What `collate` reads: a `TokenStore`, or any list of sequences."""

    def __getitem__(self, index: int, /) -> TokenSequence: ...


@dataclass(frozen=True)
class Microbatch:
    """What one rank runs at once, in host memory.

    input_ids_1T, position_ids_1T: [1, T], positions restart at each segment. cu_seqlens_S1: segment boundaries.
    lengths_S: tokens of each segment that are not padding.
    target_ids_1T: token each position must predict, -100 where none. weights_1T: loss weight of that target, already
    divided by everything and multiplied by the ranks gradients are averaged over. rows: one data row a segment.
    """

    input_ids_1T: Tensor
    position_ids_1T: Tensor
    cu_seqlens_S1: Tensor
    lengths_S: Tensor
    target_ids_1T: Tensor
    weights_1T: Tensor
    rows: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.input_ids_1T.shape[1]


@dataclass(frozen=True)
class StepBatch:
    """One optimizer step of one rank."""

    step: Step
    microbatches: tuple[Microbatch, ...]


def collate(
    sequences: Sequences,
    rows: Sequence[int],
    weight_of: Mapping[int, float],
    *,
    layout: Literal["padded", "packed"],
    dtype: torch.dtype = torch.float32,
) -> Microbatch:
    """Lay `rows` end to end. `weight_of` gives the loss weight of each row's targets; `dtype` is that of weights.

    Without rows the microbatch is one token of weight zero: a rank with less work still takes part in collectives.
    """
    parts = [sequences[row] for row in rows]
    lengths = [part.length_tokens for part in parts] or [1]
    widths = [max(lengths)] * len(lengths) if layout == "padded" else lengths
    bounds = np.concatenate(([0], np.cumsum(widths)))
    total = int(bounds[-1])
    ids_T = np.zeros(total, dtype=np.int64)
    targets_T = np.full(total, IGNORE, dtype=np.int64)
    weights_T = np.zeros(total, dtype=np.float64)
    for row, part, start in zip(rows, parts, bounds, strict=False):
        stop = start + part.length_tokens
        ids_T[start:stop] = part.ids_T
        trained = part.target_T[1:]  # position t predicts token t + 1 of the same segment
        targets_T[start : stop - 1][trained] = part.ids_T[1:][trained]
        weights_T[start : stop - 1][trained] = weight_of[row]
    positions_T = np.arange(total) - np.repeat(bounds[:-1], widths)
    return Microbatch(
        torch.from_numpy(ids_T)[None],
        torch.from_numpy(positions_T)[None],
        torch.from_numpy(bounds.astype(np.int32)),
        torch.tensor(lengths, dtype=torch.int32),
        torch.from_numpy(targets_T)[None],
        torch.from_numpy(weights_T).to(dtype)[None],
        tuple(int(row) for row in rows),
    )


@dataclass(frozen=True)
class StepLoader:
    """The plan as one data rank sees it: iterating yields one `StepBatch` an optimizer step, from `first_step` on, and
    before step `stop` if given: Trainer would run one more step of a run that is resumed at its last.

    The length is that of the whole plan, which is what a schedule needs. `averaged_ranks` is the number of ranks over
    which gradients are averaged (all of them, sequence-parallel ones too); each rank's loss is multiplied by it.
    """

    sequences: Sequences
    plan: StepPlan
    weighting: WeightSchedule
    data_rank: int = 0
    averaged_ranks: int = 1
    first_step: int = 0
    stop: int | None = None
    dtype: torch.dtype = torch.float32

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[StepBatch]:
        return (self.batch(step) for step in range(self.first_step, len(self.plan) if self.stop is None else self.stop))

    def batch(self, index: int) -> StepBatch:
        """Step `index`, without looking at any other."""
        step = self.plan[index]
        weights = self.weighting.weights(step.target_counts, index, step.pack_numbers) * self.averaged_ranks
        weight_of = dict(zip(step.sequences, weights.tolist(), strict=True))
        packs = step.ranks[self.data_rank].packs
        packs += ((),) * (step.microbatches - len(packs))
        layout = self.plan.layout
        return StepBatch(
            step,
            tuple(collate(self.sequences, pack, weight_of, layout=layout, dtype=self.dtype) for pack in packs),
        )
