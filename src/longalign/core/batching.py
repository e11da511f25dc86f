"""From lengths to the steps of a run, by four strategies behind one function.

padded     random rows, each microbatch padded to its longest row (the paper's naive baseline)
sorted     rows sorted by length, each step a random group of consecutive rows (the paper's; its length bias is real)
packed     rows packed to the window over the whole data, a fixed number of packs a step (the paper's)
balanced   a step is a uniformly random set of rows; inside the step they are packed and spread over the ranks so
           that every rank has the same work. Sampling as in `padded`, speed above `packed`.

Which step a row belongs to is drawn first, from (seed, epoch, row) alone; how a step is laid out over ranks comes
second and may change later (`replan`). Nothing is dropped or repeated within an epoch. Remainder rule: an epoch of n
rows has ceil(n / sequences_per_step) steps, whose sizes differ by at most one row (packs for `packed`), so no step is
much smaller, and its gradient noisier, than the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from longalign.core import layout
from longalign.core.layout import Layout, Sync, balance
from longalign.core.model_shape import LLAMA_7B_COST, SequenceCost
from longalign.core.order import IntArray, RowArray, even_sizes, index_dtype, offsets_of, ranges, shuffled, stable_order
from longalign.core.packing import Packs, best_fit_decreasing, check_fits, next_fit
from longalign.core.step_plan import STRATEGIES, PlanRules, StepPlan, Strategy
from longalign.errors import PlanError


def plan_steps(
    lengths: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    window: int,
    sequences_per_step: int,
    strategy: Strategy,
    ranks: int = 1,
    seed: int = 0,
    epochs: int = 1,
    token_limit: int | None = None,
    packs_per_step: int | None = None,
    rows_per_microbatch: int = 1,
    sequence_parallel: int = 1,
    packing: Literal["best_fit", "next_fit"] = "best_fit",
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
        see `longalign.core.balance`.

    Raises PlanError when a length is outside 1..window or a setting is impossible. Deterministic: equal arguments
    give an equal `StepPlan.hash` on every machine.
    """
    lengths_N, targets_N = _checked(lengths, targets, window)
    if strategy not in STRATEGIES:
        raise PlanError(f"strategy: unknown {strategy!r}; choose one of {', '.join(STRATEGIES)}")
    for name, value in (
        ("ranks", ranks), ("sequences_per_step", sequences_per_step), ("epochs", epochs),
        ("rows_per_microbatch", rows_per_microbatch), ("sequence_parallel", sequence_parallel),
        ("packs_per_step", 1 if packs_per_step is None else packs_per_step),
    ):  # fmt: skip
        if value < 1:
            raise PlanError(f"{name}: {value}; it must be at least 1")
    if ranks % sequence_parallel:
        raise PlanError(
            f"sequence_parallel: {sequence_parallel} does not divide {ranks} ranks; choose a divisor of the rank count"
        )
    limit = window if token_limit is None else token_limit
    if strategy == "balanced":
        check_fits(lengths_N, limit * sequence_parallel)
    rules = PlanRules(
        strategy=strategy, window=window, token_limit=limit, ranks=ranks, sequence_parallel=sequence_parallel,
        sequences_per_step=sequences_per_step, packs_per_step=packs_per_step, rows_per_microbatch=rows_per_microbatch,
        epochs=epochs, seed=seed, packing=packing, cost=cost or LLAMA_7B_COST, sync=sync,
    )  # fmt: skip
    if strategy == "packed":
        return _packed(rules, lengths_N, targets_N)
    draw = _sorted_groups if strategy == "sorted" else _random_groups
    drawn = [draw(lengths_N, rules, epoch) for epoch in range(epochs)]
    rows_X = np.concatenate([rows for rows, _ in drawn])
    sizes_S = np.concatenate([sizes for _, sizes in drawn])
    return _assemble(rules, lengths_N, targets_N, rows_X, sizes_S, [len(sizes) for _, sizes in drawn])


def replan(plan: StepPlan, *, ranks: int, sequence_parallel: int | None = None, from_step: int = 0) -> StepPlan:
    """The same steps on another number of ranks, from `from_step` on.

    Each step keeps its sequences, so a run that stops after `from_step` steps and goes on with the new plan repeats
    and loses nothing, mid-epoch as well; `packed` keeps its packs. Earlier steps keep the layout they ran in.
    """
    sp = plan.rules.sequence_parallel if sequence_parallel is None else sequence_parallel
    if ranks < 1 or sp < 1 or ranks % sp:
        raise PlanError(f"replan: {ranks} ranks cannot be split into sequence-parallel groups of {sp}")
    if not 0 <= from_step <= len(plan):
        raise PlanError(f"replan: from_step {from_step} is outside the plan's {len(plan)} steps")
    rules = replace(plan.rules, ranks=ranks, sequence_parallel=sp)
    packs = in_dealing_order(plan)
    rows_X = plan.rows_X[packs.items]
    if rules.strategy == "packed":
        slots = plan.rank_packs_R1[plan.step_ranks_S1]
        new = layout.deal_packs(rows_X, packs.offsets, np.diff(slots), ranks // sp)
    else:
        new = _lay_out(rules, plan.lengths_N, rows_X, np.diff(plan.step_rows_S1))
    return splice(replace(plan, rules=rules), new, from_step)


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


def _random_groups(lengths_N: RowArray, rules: PlanRules, epoch: int) -> tuple[RowArray, IntArray]:
    order = shuffled(len(lengths_N), rules.seed, epoch)
    return order, even_sizes(len(order), rules.sequences_per_step)


def _sorted_groups(lengths_N: RowArray, rules: PlanRules, epoch: int) -> tuple[RowArray, IntArray]:
    order = shuffled(len(lengths_N), rules.seed, epoch)
    order = order[stable_order(lengths_N[order])]
    sizes = even_sizes(len(order), rules.sequences_per_step)
    groups = shuffled(len(sizes), rules.seed, epoch, 1)
    offsets = offsets_of(sizes)
    return order[ranges(offsets[groups], sizes[groups])], sizes[groups]


def _packed(rules: PlanRules, lengths_N: RowArray, targets_N: RowArray) -> StepPlan:
    data_ranks = rules.ranks // rules.sequence_parallel
    rows, pack_sizes, steps_packs = [], [], []
    for epoch in range(rules.epochs):
        order = shuffled(len(lengths_N), rules.seed, epoch)
        algorithm = best_fit_decreasing if rules.packing == "best_fit" else next_fit
        packs = algorithm(lengths_N[order], rules.window)
        if rules.packs_per_step is None:
            rounds = round(rules.sequences_per_step * len(packs) / len(lengths_N) / data_ranks)
            rules = replace(rules, packs_per_step=max(rounds, 1) * data_ranks)
        assert rules.packs_per_step is not None
        drawn = shuffled(len(packs), rules.seed, epoch, 1)
        sizes = np.diff(packs.offsets)[drawn]
        rows.append(order[packs.items[ranges(packs.offsets[drawn], sizes)]])
        pack_sizes.append(sizes)
        steps_packs.append(even_sizes(len(packs), rules.packs_per_step))
    offsets = offsets_of(np.concatenate(pack_sizes))
    laid = layout.deal_packs(np.concatenate(rows), offsets, np.concatenate(steps_packs), data_ranks)
    return _finish(rules, lengths_N, targets_N, laid, [len(packs) for packs in steps_packs])


def _lay_out(rules: PlanRules, lengths_N: RowArray, rows_X: RowArray, sizes_S: IntArray) -> layout.Layout:
    data_ranks = rules.ranks // rules.sequence_parallel
    if rules.strategy == "balanced":
        return balance(
            lengths_N, rows_X, sizes_S, data_ranks=data_ranks, cost=rules.cost, sync=rules.sync,
            token_limit=rules.token_limit * rules.sequence_parallel,
        )  # fmt: skip
    return layout.deal_rows(rows_X, sizes_S, data_ranks, rules.rows_per_microbatch)


def _assemble(
    rules: PlanRules, lengths_N: RowArray, targets_N: RowArray,
    rows_X: RowArray, sizes_S: IntArray, epoch_steps: list[int],
) -> StepPlan:  # fmt: skip
    return _finish(rules, lengths_N, targets_N, _lay_out(rules, lengths_N, rows_X, sizes_S), epoch_steps)


def _finish(
    rules: PlanRules, lengths_N: RowArray, targets_N: RowArray,
    laid: layout.Layout, epoch_steps: list[int],
) -> StepPlan:  # fmt: skip
    return StepPlan(
        rules, lengths_N, targets_N, laid.rows_X, laid.pack_rows_P1, laid.rank_packs_R1, laid.step_ranks_S1,
        offsets_of(np.array(epoch_steps)),
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
