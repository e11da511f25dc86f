"""Dealing the rows or packs of each step to data ranks in order; all steps at once, in numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from longalign.core.order import IntArray, RowArray, offsets_of, ranges, stable_order
from longalign.core.packing import Packs

if TYPE_CHECKING:
    from longalign.core.step_plan import StepPlan


@dataclass(frozen=True)
class Layout:
    """The placing arrays of a `StepPlan` (same names and meaning)."""

    rows_X: RowArray
    pack_rows_P1: IntArray
    rank_packs_R1: IntArray
    step_ranks_S1: IntArray


def deal_rows(rows_X: RowArray, sizes_S: IntArray, data_ranks: int, rows_per_microbatch: int) -> Layout:
    """Rows dealt in order: `rows_per_microbatch` to each rank are microbatch 0, the next ones microbatch 1, ...

    The last round of a step spreads what is left evenly over the ranks.
    """
    order, pack_sizes, packs_R = _deal(sizes_S, data_ranks, rows_per_microbatch)
    step_ranks_S1 = np.arange(len(sizes_S) + 1, dtype=np.int64) * data_ranks
    return Layout(rows_X[order], offsets_of(pack_sizes), offsets_of(packs_R), step_ranks_S1)


def deal_packs(rows_X: RowArray, pack_rows_P1: IntArray, packs_S: IntArray, data_ranks: int) -> Layout:
    """Whole packs dealt in order to the ranks, one a round."""
    order, _, packs_R = _deal(packs_S, data_ranks, 1)
    sizes = np.diff(pack_rows_P1)[order]
    step_ranks_S1 = np.arange(len(packs_S) + 1, dtype=np.int64) * data_ranks
    rows = rows_X[ranges(pack_rows_P1[:-1][order], sizes)]
    return Layout(rows, offsets_of(sizes), offsets_of(packs_R), step_ranks_S1)


def _deal(sizes_S: IntArray, data_ranks: int, per_rank: int) -> tuple[IntArray, IntArray, IntArray]:
    """Units in the order (step, rank, round), units of each microbatch, microbatches of each slot.

    How a step is dealt depends on its size alone, and sizes of steps repeat: one pattern a size, then gathers.
    """
    sizes, which_S = np.unique(sizes_S, return_inverse=True)
    patterns = [_deal_one(int(size), data_ranks, per_rank) for size in sizes]
    places, packs, per_slot = (np.concatenate(column) for column in zip(*patterns, strict=True))
    pack_counts = np.array([len(pattern[1]) for pattern in patterns], dtype=np.int64)
    order = np.repeat(offsets_of(sizes_S)[:-1], sizes_S)
    order += places[ranges(offsets_of(sizes)[which_S], sizes_S)]
    pack_sizes = packs[ranges(offsets_of(pack_counts)[which_S], pack_counts[which_S])]
    slots = per_slot.reshape(len(sizes), data_ranks)[which_S].ravel()
    return order, pack_sizes, slots


def _deal_one(size: int, data_ranks: int, per_rank: int) -> tuple[IntArray, IntArray, IntArray]:
    place = np.arange(size, dtype=np.int64)
    round_size = data_ranks * per_rank
    micro = place // round_size
    in_round = np.minimum(size - micro * round_size, round_size)
    rank = (place - micro * round_size) * data_ranks // in_round
    rounds = -(-size // round_size)
    counts = np.bincount(rank * rounds + micro, minlength=data_ranks * rounds)
    per_slot = (counts.reshape(data_ranks, rounds) > 0).sum(1)
    return np.lexsort((place, micro, rank)), counts[counts > 0], per_slot


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
