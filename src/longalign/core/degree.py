"""Choosing how many ranks share a microbatch: the sequence-parallel degree with the shortest steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from longalign.core.hardware import Execution, Machine
from longalign.core.memory import largest_microbatch
from longalign.core.order import RowArray, shuffled
from longalign.core.shapes import ModelShape
from longalign.core.step_plan import StepPlan
from longalign.core.timing import PlanTime, plan_time
from longalign.errors import PlanError

DEGREES = (1, 2, 4, 8, 16, 32, 64)
SAMPLED_STEPS = 256


@dataclass(frozen=True)
class LayoutOption:
    """One degree, tried on a sample of steps. `reason` says why it cannot be used (then `time` is None).

    fits: whether the memory estimate for microbatches of `token_limit` tokens a rank stays inside the machine.
    """

    degree: int
    ranks: int
    token_limit: int
    time: PlanTime | None
    fits: bool = False
    reason: str | None = None

    @property
    def name(self) -> str:
        return layout_name(self.ranks, self.degree)


def layout_name(ranks: int, degree: int) -> str:
    """`dp8` or `sp2xdp4`."""
    return f"dp{ranks}" if degree == 1 else f"sp{degree}xdp{ranks // degree}"


def compare_degrees(
    lengths: RowArray,
    plan_sample: Callable[[RowArray, int, int], StepPlan],
    *,
    shape: ModelShape, machine: Machine, execution: Execution,
    ranks: int, sequences_per_step: int, window: int, token_limit: int | None = None,
    degrees: Sequence[int] = DEGREES, seed: int = 0,
) -> Sequence[LayoutOption]:  # fmt: skip
    """The degrees with their time on up to 256 random steps: those that fit first, among them the shortest first.

    plan_sample(lengths, degree, token_limit) plans the sampled rows. A degree must divide the ranks and the attention
    heads and stay inside a node. Without a `token_limit` it is the window, or what memory leaves if that is less and
    the group of ranks still holds the longest sequence. Raises PlanError when no degree is usable.
    """
    sample = lengths[shuffled(len(lengths), seed, 7)[: SAMPLED_STEPS * sequences_per_step]]
    longest = sample[0] = int(lengths.max())
    room = largest_microbatch(shape, execution, machine, ranks=ranks)
    options = []
    for degree in degrees:
        reason = None
        limit = token_limit or (min(window, room) if room * degree >= longest else window)
        if degree > ranks or ranks % degree:
            reason = f"{ranks} ranks cannot be split into groups of {degree}"
        elif shape.heads % degree:
            reason = f"{shape.heads} heads cannot be split {degree} ways"
        elif degree > machine.ranks_per_node and len(degrees) > 1:
            reason = f"the group leaves its node of {machine.ranks_per_node} ranks"
        elif limit * degree < longest:
            reason = f"{longest} tokens exceed the limit of {limit} on each of {degree} ranks"
        if reason:
            options.append(LayoutOption(degree, ranks, limit, None, reason=reason))
        else:
            time = plan_time(plan_sample(sample, degree, limit), shape, machine, execution)
            options.append(LayoutOption(degree, ranks, limit, time, fits=limit <= room))
    if not any(option.time for option in options):
        raise PlanError("layout: " + "; ".join(f"{option.name}: {option.reason}" for option in options))
    options.sort(key=lambda option: (not option.fits, option.time.total_s if option.time else np.inf))
    return options
