"""Laying the rows of each step out over data ranks and microbatches; all steps at once, in numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from longalign.core.packing import Packs

if TYPE_CHECKING:
    from longalign.core.step_plan import StepPlan

IntArray = NDArray[np.int64]
RowArray = NDArray[np.integer]


@dataclass(frozen=True)
class Layout:
    """The placing arrays of a `StepPlan` (same names and meaning)."""

    rows_X: RowArray
    pack_rows_P1: IntArray
    rank_packs_R1: IntArray
    step_ranks_S1: IntArray


def ranges(starts: IntArray, sizes: IntArray) -> IntArray:
    """start, start + 1, ... of every range, one range after the other."""
    ends = np.cumsum(sizes)
    shifts: IntArray = np.repeat(starts - (ends - sizes), sizes)
    return np.arange(len(shifts), dtype=np.int64) + shifts


def _offsets(sizes: IntArray) -> IntArray:
    return np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)


def _slots(sizes_S: IntArray, data_ranks: int, per_rank: int) -> tuple[IntArray, IntArray]:
    """(slot, microbatch) of each unit when units are dealt in order, `per_rank` to each rank a round.

    Round m of a step takes the next data_ranks * per_rank units; the last round spreads what is left evenly.
    """
    step_of = np.repeat(np.arange(len(sizes_S), dtype=np.int64), sizes_S)
    place = ranges(np.zeros_like(sizes_S), sizes_S)
    round_size = data_ranks * per_rank
    micro = place // round_size
    in_round = np.minimum(sizes_S[step_of] - micro * round_size, round_size)
    rank = (place - micro * round_size) * data_ranks // in_round
    return step_of * data_ranks + rank, micro


def deal_rows(rows_X: RowArray, sizes_S: IntArray, data_ranks: int, rows_per_microbatch: int) -> Layout:
    """Rows dealt in order: microbatch 0 of all ranks, then microbatch 1, ..."""
    slot, micro = _slots(sizes_S, data_ranks, rows_per_microbatch)
    return _place(rows_X, slot, micro, len(sizes_S), data_ranks)


def deal_packs(rows_X: RowArray, pack_rows_P1: IntArray, packs_S: IntArray, data_ranks: int) -> Layout:
    """Whole packs dealt in order to the ranks, one a round."""
    slot, _ = _slots(packs_S, data_ranks, 1)
    order = np.argsort(slot, kind="stable")
    sizes = np.diff(pack_rows_P1)[order]
    return Layout(
        rows_X[ranges(pack_rows_P1[:-1][order], sizes)],
        _offsets(sizes),
        _offsets(np.bincount(slot, minlength=len(packs_S) * data_ranks)),
        np.arange(len(packs_S) + 1, dtype=np.int64) * data_ranks,
    )


def _place(rows_X: RowArray, slot: IntArray, micro: IntArray, steps: int, data_ranks: int) -> Layout:
    """Rows to their slot and microbatch, keeping order inside a microbatch; empty microbatches vanish."""
    key = slot * (int(micro.max()) + 1) + micro
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    pack_slot = slot[order[first]]
    return Layout(
        rows_X[order],
        np.append(first, len(rows_X)).astype(np.int64),
        _offsets(np.bincount(pack_slot, minlength=steps * data_ranks)),
        np.arange(steps + 1, dtype=np.int64) * data_ranks,
    )


def balance(
    lengths_N: RowArray, rows_X: RowArray, sizes_S: IntArray,
    data_ranks: int, token_limit: int, linear: float, quadratic: float,
) -> Layout:  # fmt: skip
    """Rows of each step packed under `token_limit` and spread so that all ranks have the same work.

    Greedy, dearest row first: to the rank with the least work that has room, there to the fullest microbatch that
    takes it. The number of microbatches starts at the least that could hold the step and grows where that fails.
    """
    steps, most = len(sizes_S), int(sizes_S.max())
    inside = np.arange(most) < sizes_S[:, None]
    rows_SB = np.zeros((steps, most), dtype=rows_X.dtype)
    rows_SB[inside] = rows_X
    lengths_SB = np.where(inside, lengths_N[rows_SB], 0)
    order_SB = np.lexsort((rows_SB, -lengths_SB), axis=1)
    rows_SB = np.take_along_axis(rows_SB, order_SB, 1)
    lengths_SB = np.take_along_axis(lengths_SB, order_SB, 1).astype(np.int64)
    bins_SB = np.full((steps, most), -1, dtype=np.int64)
    rounds_S = np.maximum(-(-lengths_SB.sum(1) // (data_ranks * token_limit)), 1)
    todo = np.arange(steps)
    while todo.size:
        for rounds in np.unique(rounds_S[todo]):
            chosen = todo[rounds_S[todo] == rounds]
            bins_SB[chosen] = _fill(lengths_SB[chosen], data_ranks, int(rounds), token_limit, linear, quadratic)
        todo = todo[(bins_SB[todo] < 0).any(1)]
        rounds_S[todo] += 1
    slot = np.repeat(np.arange(steps) * data_ranks, sizes_S) + (bins_SB // rounds_S[:, None])[inside]
    return _place(rows_SB[inside], slot, (bins_SB % rounds_S[:, None])[inside], steps, data_ranks)


def _fill(
    lengths_SB: IntArray, data_ranks: int, rounds: int, token_limit: int, linear: float, quadratic: float
) -> IntArray:
    """Bin (rank * rounds + round) of each row, lengths descending, 0 for padding; a row of -1 where no bin took it."""
    steps, most = lengths_SB.shape
    space_SGM = np.full((steps, data_ranks, rounds), token_limit, dtype=np.int64)
    work_SG = np.zeros((steps, data_ranks))
    bins_SB = np.zeros((steps, most), dtype=np.int64)
    every = np.arange(steps)
    for b in range(most):
        length_S = lengths_SB[:, b]
        left_SGM = space_SGM - length_S[:, None, None]
        left_SGM[left_SGM < 0] = token_limit + 1
        rank_S = np.where((left_SGM <= token_limit).any(2), work_SG, np.inf).argmin(1)
        left_SM = left_SGM[every, rank_S]
        round_S = left_SM.argmin(1)
        ok_S = left_SM[every, round_S] <= token_limit
        space_SGM[every, rank_S, round_S] -= np.where(ok_S, length_S, 0)
        work_SG[every, rank_S] += length_S * (linear + quadratic * length_S)
        bins_SB[:, b] = np.where(ok_S, rank_S * rounds + round_S, -1)
    return bins_SB


def in_dealing_order(plan: StepPlan) -> Packs:
    """Microbatches of a plan in the order (step, microbatch, data rank): the order `deal_*` met them in.

    Returns positions in `plan.rows_X` and offsets of the microbatches among them.
    """
    slot_packs = np.diff(plan.rank_packs_R1)
    pack_slot = np.repeat(np.arange(len(slot_packs)), slot_packs)
    micro = ranges(np.zeros_like(slot_packs), slot_packs)
    step_of_slot = np.repeat(np.arange(len(plan)), np.diff(plan.step_ranks_S1))
    order = np.lexsort((pack_slot, micro, step_of_slot[pack_slot]))
    sizes = np.diff(plan.pack_rows_P1)[order]
    return Packs(ranges(plan.pack_rows_P1[:-1][order], sizes), _offsets(sizes))


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
