"""From lengths to the steps of a run, by the strategies of core/strategies.py.

Which step a row belongs to is drawn first, from (seed, epoch, row) alone; how a step is laid out over ranks comes
second and may change later (`replan`). Nothing is dropped or repeated within an epoch. Remainder rule: an epoch of n
rows has ceil(n / sequences_per_step) steps, whose sizes differ by at most one row (packs for `packed`), so no step is
much smaller, and its gradient noisier, than the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from longalign.core import layout
from longalign.core.layout import Layout
from longalign.core.model_shape import LLAMA_7B_COST, SequenceCost
from longalign.core.order import IntArray, RowArray, index_dtype, offsets_of, ranges, stable_order
from longalign.core.packing import Packs, check_fits
from longalign.core.rules import Packing, PlanRules, Sync
from longalign.core.step_plan import StepPlan
from longalign.core.strategies import PACKINGS, Drawn, strategy_of
from longalign.errors import PlanError


def plan_steps(
    lengths: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    window: int,
    sequences_per_step: int,
    strategy: str,
    ranks: int = 1,
    seed: int = 0,
    epochs: int = 1,
    token_limit: int | None = None,
    packs_per_step: int | None = None,
    rows_per_microbatch: int = 1,
    sequence_parallel: int = 1,
    packing: Packing = "best_fit",
    cost: SequenceCost | None = None,
    sync: Sync = "microbatch",
) -> StepPlan:
    """The steps of `epochs` passes over sequences of the given `lengths` (tokens, shape [n]).

    targets: target tokens of each sequence, shape [n]; None means every token. A row without targets is run but is
        not part of M.
    window: most tokens of a sequence, and of a pack of `packed`.
    sequences_per_step: sequences of one optimizer step over all ranks.
    ranks, sequence_parallel: processes over all nodes, in groups of `sequence_parallel` that share each microbatch;
        the plan deals with `ranks / sequence_parallel` data ranks.
    token_limit: for `balanced`, most tokens of a microbatch a process (default: window), so a microbatch of a data
        rank holds up to `token_limit * sequence_parallel`.
    packs_per_step: for `packed`; by default what holds sequences_per_step on average, a multiple of the data ranks.
    rows_per_microbatch: for `padded` and `sorted`, most rows a data rank runs at once.
    packing: for `packed`, the algorithm.
    cost, sync: for `balanced`, the work of a sequence (default: Llama-2-7B's) and where ranks wait for each other,
        see `longalign.core.layout`.

    Raises PlanError when a length is outside 1..window or a setting is impossible. Deterministic: equal arguments
    give an equal `StepPlan.hash` on every machine.
    """
    lengths_N, targets_N = _checked(lengths, targets, window)
    batching = strategy_of(strategy)
    for name, value in (
        ("ranks", ranks), ("sequences_per_step", sequences_per_step), ("epochs", epochs),
        ("rows_per_microbatch", rows_per_microbatch), ("sequence_parallel", sequence_parallel),
        ("packs_per_step", 1 if packs_per_step is None else packs_per_step),
    ):  # fmt: skip
        if value < 1:
            raise PlanError(f"{name}: {value}; it must be at least 1")
    if packing not in PACKINGS:
        raise PlanError(f"packing: unknown {packing!r}; choose one of {', '.join(PACKINGS)}")
    if ranks % sequence_parallel:
        raise PlanError(
            f"sequence_parallel: {sequence_parallel} does not divide {ranks} ranks; choose a divisor of the rank count"
        )
    limit = window if token_limit is None else token_limit
    if batching.microbatches == "balanced":
        check_fits(lengths_N, limit * sequence_parallel)
    rules = PlanRules(
        strategy=strategy, window=window, token_limit=limit, ranks=ranks, sequence_parallel=sequence_parallel,
        sequences_per_step=sequences_per_step, packs_per_step=packs_per_step, rows_per_microbatch=rows_per_microbatch,
        epochs=epochs, seed=seed, packing=packing, cost=cost or LLAMA_7B_COST, sync=sync,
    )  # fmt: skip
    drawn: list[Drawn] = []
    for epoch in range(epochs):
        drawn.append(batching.draw(lengths_N, rules, epoch))
        rules = replace(rules, packs_per_step=drawn[-1].packs_per_step or packs_per_step)
    laid = _lay_out(rules, lengths_N, _joined(drawn))
    return StepPlan(
        rules, lengths_N, targets_N, laid.rows_X, laid.pack_rows_P1, laid.rank_packs_R1, laid.step_ranks_S1,
        offsets_of(np.array([len(epoch.sizes_S) for epoch in drawn])),
    )  # fmt: skip


def replan(
    plan: StepPlan,
    *,
    ranks: int | None = None,
    sequence_parallel: int | None = None,
    token_limit: int | None = None,
    rows_per_microbatch: int | None = None,
    sync: Sync | None = None,
    cost: SequenceCost | None = None,
    from_step: int = 0,
) -> StepPlan:
    """The same steps laid out by other rules, from `from_step` on; what is not given stays as it is in the plan.

    Each step keeps its sequences, so a run that stops after `from_step` steps and goes on with the new plan repeats
    and loses nothing, mid-epoch as well; `packed` keeps its packs. Earlier steps keep the layout they ran in. Raises
    PlanError for impossible ranks or rows, and for a token limit that a sequence of the data exceeds.
    """
    given: dict[str, Any] = {
        "ranks": ranks, "sequence_parallel": sequence_parallel, "token_limit": token_limit,
        "rows_per_microbatch": rows_per_microbatch, "sync": sync, "cost": cost,
    }  # fmt: skip
    rules = replace(plan.rules, **{name: value for name, value in given.items() if value is not None})
    if rules.ranks < 1 or rules.sequence_parallel < 1 or rules.ranks % rules.sequence_parallel:
        raise PlanError(
            f"replan: {rules.ranks} ranks cannot be split into sequence-parallel groups of {rules.sequence_parallel}"
        )
    if rules.rows_per_microbatch < 1:
        raise PlanError(f"replan: rows_per_microbatch {rules.rows_per_microbatch}; it must be at least 1")
    if not 0 <= from_step <= len(plan):
        raise PlanError(f"replan: from_step {from_step} is outside the plan's {len(plan)} steps")
    bounds = strategy_of(rules.strategy).microbatches
    if bounds == "balanced":
        check_fits(plan.lengths_N, rules.token_limit * rules.sequence_parallel)
    packs = in_dealing_order(plan)
    rows_X = plan.rows_X[packs.items]
    if bounds == "fixed":
        packs_S = np.diff(plan.rank_packs_R1[plan.step_ranks_S1])
        drawn = Drawn(rows_X, packs_S, np.diff(packs.offsets))
    else:
        drawn = Drawn(rows_X, np.diff(plan.step_rows_S1))
    return splice(replace(plan, rules=rules), _lay_out(rules, plan.lengths_N, drawn), from_step)


def _checked(lengths: ArrayLike, targets: ArrayLike | None, window: int) -> tuple[RowArray, RowArray]:
    lengths_N = np.asarray(lengths)
    if lengths_N.ndim != 1 or not len(lengths_N) or not np.issubdtype(lengths_N.dtype, np.integer):
        raise PlanError("lengths: a flat, non-empty array of whole token counts is needed")
    check_fits(lengths_N, window)
    dtype = index_dtype(window)
    lengths_N = np.ascontiguousarray(lengths_N, dtype=dtype)
    if targets is None:
        return lengths_N, lengths_N
    targets_N = np.asarray(targets)
    if targets_N.shape != lengths_N.shape or not np.issubdtype(targets_N.dtype, np.integer):
        raise PlanError(f"targets: shape {targets_N.shape} {targets_N.dtype}; {len(lengths_N)} whole counts are needed")
    wrong = (targets_N < 0) | (targets_N > lengths_N)
    if wrong.any():
        row = int(wrong.argmax())
        raise PlanError(f"row {row}: {targets_N[row]} targets in {lengths_N[row]} tokens; it must be 0 to all of them")
    return lengths_N, np.ascontiguousarray(targets_N, dtype=dtype)


def _joined(epochs: Sequence[Drawn]) -> Drawn:
    """The steps of all epochs, one after the other."""
    packs = [epoch.pack_sizes_P for epoch in epochs if epoch.pack_sizes_P is not None]
    return Drawn(
        np.concatenate([epoch.rows_X for epoch in epochs]),
        np.concatenate([epoch.sizes_S for epoch in epochs]),
        np.concatenate(packs) if packs else None,
    )


def _lay_out(rules: PlanRules, lengths_N: RowArray, drawn: Drawn) -> Layout:
    """The drawn steps on ranks, as the strategy bounds its microbatches."""
    bounds = strategy_of(rules.strategy).microbatches
    if bounds == "padded":
        return layout.deal_rows(drawn.rows_X, drawn.sizes_S, rules.data_ranks, rules.rows_per_microbatch)
    if bounds == "fixed":
        assert drawn.pack_sizes_P is not None, f"{rules.strategy} draws no packs"
        return layout.deal_packs(drawn.rows_X, offsets_of(drawn.pack_sizes_P), drawn.sizes_S, rules.data_ranks)
    return layout.balance(
        lengths_N, drawn.rows_X, drawn.sizes_S, data_ranks=rules.data_ranks, cost=rules.cost, sync=rules.sync,
        token_limit=rules.token_limit * rules.sequence_parallel,
    )  # fmt: skip


def in_dealing_order(plan: StepPlan) -> Packs:
    """Microbatches of a plan in the order (step, microbatch, data rank): the order `deal_*` met them in.

    Returns positions in `plan.rows_X` and offsets of the microbatches among them.
    """
    slot_packs = np.diff(plan.rank_packs_R1)
    micro = ranges(np.zeros_like(slot_packs), slot_packs)
    step_packs = np.diff(plan.rank_packs_R1[plan.step_ranks_S1])
    step_of = np.repeat(np.arange(len(plan), dtype=np.int64), step_packs)
    order = stable_order(step_of * (int(micro.max()) + 1) + micro)  # ranks ascend within a step already
    sizes = np.diff(plan.pack_rows_P1)[order]
    return Packs(ranges(plan.pack_rows_P1[:-1][order], sizes), offsets_of(sizes))


def splice(plan: StepPlan, new: Layout, from_step: int) -> StepPlan:
    """`plan` with the placing of `new` from `from_step` on; both must train on the same rows in every step."""
    old_slots = int(plan.step_ranks_S1[from_step])
    new_slots = int(new.step_ranks_S1[from_step])
    old_packs, new_packs = int(plan.rank_packs_R1[old_slots]), int(new.rank_packs_R1[new_slots])
    old_rows, new_rows = int(plan.pack_rows_P1[old_packs]), int(new.pack_rows_P1[new_packs])

    def join(before: IntArray, after: IntArray, at: int) -> IntArray:
        return np.concatenate((before, after + (at - int(after[0]))))

    return replace(
        plan,
        rows_X=np.concatenate((plan.rows_X[:old_rows], new.rows_X[new_rows:])),
        pack_rows_P1=join(plan.pack_rows_P1[:old_packs], new.pack_rows_P1[new_packs:], old_rows),
        rank_packs_R1=join(plan.rank_packs_R1[:old_slots], new.rank_packs_R1[new_slots:], old_packs),
        step_ranks_S1=join(plan.step_ranks_S1[:from_step], new.step_ranks_S1[from_step:], old_slots),
    )
