"""Where the sequences of each step run: dealt to data ranks in order, or (`balanced`) spread so that no rank waits.

The gradient of a step does not depend on where its sequences run (Eq. 4), so the place of each is free. Work is
linear plus quadratic in length, memory is linear: microbatches are bounded in tokens and evened in FLOPs.

Two kinds of waiting exist. With sharded parameters (FSDP2, ZeRO-3) every layer is gathered by all ranks in every
microbatch, so ranks wait for each other in each round of microbatches (`sync="microbatch"`); with whole parameters
on each rank they meet once a step (`sync="step"`). Greedy placing, dearest sequence first, serves both:

- per round: a round has a target, the largest sequence or an even share; a sequence goes to the microbatch that
  lacks most of its target. Large sequences thereby share rounds and short ones fill up beside them.
- per step: to the rank with the least work so far, there to the fullest microbatch that still takes it.

Placing by targets may leave a sequence without room; then the step is placed per step, which packs tighter, and if
that fails too it gets one more round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longalign.core.model_shape import SequenceCost
from longalign.core.order import IntArray, RowArray, offsets_of, ranges, stable_order
from longalign.core.rules import Sync


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


_CELLS = 1 << 16  # microbatches placed at once; keeps the state of the greedy loop in cache


def balance(
    lengths_N: RowArray, rows_X: RowArray, sizes_S: IntArray,
    *, data_ranks: int, token_limit: int, cost: SequenceCost, sync: Sync,
) -> Layout:  # fmt: skip
    """Rows `rows_X` of steps of `sizes_S` rows, placed on `data_ranks` in microbatches of at most `token_limit`.

    All ranks of a step have the same number of rounds, the least that was found; a microbatch may stay empty and is
    then left out. Microbatches of a rank are ordered by work, so that rounds match between ranks.
    """
    steps = len(sizes_S)
    starts = offsets_of(sizes_S)
    chunk = max(_CELLS // (2 * data_ranks), 1)
    placed: list[tuple[RowArray, IntArray, IntArray]] = []
    for first in range(0, steps, chunk):
        sizes = sizes_S[first : first + chunk]
        chunk_rows = rows_X[starts[first] : starts[first + len(sizes)]]
        placed.append(_balance_steps(lengths_N, chunk_rows, sizes, data_ranks, token_limit, cost, sync))
    rows, packs, slots = zip(*placed, strict=True)
    return Layout(
        np.concatenate(rows),
        offsets_of(np.concatenate(packs)),
        offsets_of(np.concatenate(slots)),
        np.arange(steps + 1, dtype=np.int64) * data_ranks,
    )


def _balance_steps(
    lengths_N: RowArray, rows_X: RowArray, sizes_S: IntArray,
    data_ranks: int, token_limit: int, cost: SequenceCost, sync: Sync,
) -> tuple[RowArray, IntArray, IntArray]:  # fmt: skip
    """Rows in the order (step, rank, microbatch); rows of each microbatch; microbatches of each slot."""
    steps, most = len(sizes_S), int(sizes_S.max())
    inside_SB = np.arange(most) < sizes_S[:, None]
    rows_SB = np.zeros((steps, most), dtype=rows_X.dtype)
    rows_SB[inside_SB] = rows_X
    # Longest first, ties by row number, so that the placing depends on the set of rows only; absent rows last.
    lengths_SB = np.where(inside_SB, lengths_N[rows_SB], 0).astype(np.int64)
    bits = int(lengths_N.size - 1).bit_length()
    key_SB = ((token_limit - lengths_SB) << bits) | rows_SB
    key_SB.sort(axis=1)
    rows_SB = (key_SB & ((1 << bits) - 1)).astype(rows_X.dtype)
    lengths_SB = token_limit - (key_SB >> bits)
    flops_SB = cost.flops(lengths_SB)

    bins_SB = np.full((steps, most), -1, dtype=np.int64)
    rounds_S = np.maximum(-(-lengths_SB.sum(1) // (data_ranks * token_limit)), 1)
    todo = np.arange(steps)
    while todo.size:
        for rounds in np.unique(rounds_S[todo]):
            chosen = todo[rounds_S[todo] == rounds]
            shape = (data_ranks, int(rounds), token_limit)
            if sync == "microbatch":
                bins_SB[chosen] = _place_by_round(lengths_SB[chosen], flops_SB[chosen], *shape)
                chosen = chosen[(bins_SB[chosen] < 0).any(1)]
            if chosen.size:
                bins_SB[chosen] = _place_by_rank(lengths_SB[chosen], flops_SB[chosen], *shape)
        todo = todo[(bins_SB[todo] < 0).any(1)]
        rounds_S[todo] += 1
    return _collect(rows_SB, flops_SB, bins_SB, inside_SB, rounds_S, data_ranks)


def _place_by_rank(
    lengths_SB: IntArray, flops_SB: NDArray[np.float64], data_ranks: int, rounds: int, token_limit: int
) -> IntArray:
    """Microbatch (rank * rounds + round) of each sequence, -1 where none took it. Absent sequences have length 0."""
    steps, most = lengths_SB.shape
    space_SGM = np.full((steps, data_ranks, rounds), token_limit, dtype=np.int64)
    work_SG = np.zeros((steps, data_ranks))
    bins_SB = np.zeros((steps, most), dtype=np.int64)
    every = np.arange(steps)
    for b in range(most):
        length_S = lengths_SB[:, b]
        fits_SG = space_SGM.max(2) >= length_S[:, None]
        rank_S = np.where(fits_SG, work_SG, np.inf).argmin(1)
        left_SM = space_SGM[every, rank_S] - length_S[:, None]
        left_SM[left_SM < 0] = token_limit + 1
        round_S = left_SM.argmin(1)
        placed_S = left_SM[every, round_S] <= token_limit
        space_SGM[every, rank_S, round_S] -= np.where(placed_S, length_S, 0)
        work_SG[every, rank_S] += flops_SB[:, b]
        bins_SB[:, b] = np.where(placed_S, rank_S * rounds + round_S, -1)
    return bins_SB


def _place_by_round(
    lengths_SB: IntArray, flops_SB: NDArray[np.float64], data_ranks: int, rounds: int, token_limit: int
) -> IntArray:
    """As `_place_by_rank`, by the lack of each microbatch against the target of its round."""
    steps, most = lengths_SB.shape
    share_S = flops_SB.sum(1) / data_ranks
    lack_SGM = np.empty((steps, data_ranks, rounds))
    first_S = np.maximum(flops_SB[:, 0], share_S / rounds)
    lack_SGM[:, :, 0] = first_S[:, None]
    if rounds > 1:
        lack_SGM[:, :, 1:] = ((share_S - first_S) / (rounds - 1))[:, None, None]
    lack_SC = lack_SGM.reshape(steps, -1)
    space_SC = np.full(lack_SC.shape, token_limit, dtype=np.int64)
    bins_SB = np.zeros((steps, most), dtype=np.int64)
    every = np.arange(steps)
    for b in range(most):
        length_S = lengths_SB[:, b]
        cell_S = np.where(space_SC >= length_S[:, None], lack_SC, -np.inf).argmax(1)
        placed_S = space_SC[every, cell_S] >= length_S
        space_SC[every, cell_S] -= np.where(placed_S, length_S, 0)
        lack_SC[every, cell_S] -= flops_SB[:, b]
        bins_SB[:, b] = np.where(placed_S, cell_S, -1)
    return bins_SB


def _collect(
    rows_SB: RowArray, flops_SB: NDArray[np.float64], bins_SB: IntArray, inside_SB: NDArray[np.bool_],
    rounds_S: IntArray, data_ranks: int,
) -> tuple[RowArray, IntArray, IntArray]:  # fmt: skip
    """Placed rows as flat arrays, the microbatches of each rank by descending work."""
    steps = len(rows_SB)
    cells = data_ranks * int(rounds_S.max())
    rank_SB, round_SB = np.divmod(bins_SB, rounds_S[:, None])
    cell_SB = rank_SB * int(rounds_S.max()) + round_SB
    flat = (np.arange(steps)[:, None] * cells + cell_SB)[inside_SB]
    work_SGM = np.bincount(flat, weights=flops_SB[inside_SB], minlength=steps * cells).reshape(steps, data_ranks, -1)
    place_SGM = np.argsort(np.argsort(-work_SGM, axis=2, kind="stable"), axis=2)
    cell_SB = rank_SB * work_SGM.shape[2] + np.take_along_axis(place_SGM.reshape(steps, -1), cell_SB, 1)
    order_SB = stable_order(np.where(inside_SB, cell_SB, cells), axis=1)
    counts = np.bincount((np.arange(steps)[:, None] * cells + cell_SB)[inside_SB], minlength=steps * cells)
    slots = (counts.reshape(-1, work_SGM.shape[2]) > 0).sum(1)
    return np.take_along_axis(rows_SB, order_SB, 1)[inside_SB], counts[counts > 0], slots
