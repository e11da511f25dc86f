"""Putting sequences into as few packs of a fixed token capacity as possible.

`best_fit_decreasing` works on *counts of equal lengths*, so its cost depends on how many distinct (length, free space)
pairs meet and not on the number of sequences. `next_fit` is the rule of the paper's code, except that its last open
pack is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from longalign.core.order import IntArray, RowArray, offsets_of, stable_order
from longalign.errors import PlanError


@dataclass(frozen=True)
class Packs:
    """Items in pack order: pack p holds `items[offsets[p]:offsets[p + 1]]` (positions in the lengths given)."""

    items: RowArray
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1


def check_fits(lengths: RowArray, capacity: int) -> None:
    """Raise PlanError unless every length is in 1..capacity."""
    if lengths.size == 0:
        return
    if int(lengths.min()) < 1:
        row = int(lengths.argmin())
        raise PlanError(f"row {row}: length {int(lengths[row])} tokens; every sequence needs at least one token")
    if int(lengths.max()) > capacity:
        row = int(lengths.argmax())
        raise PlanError(
            f"row {row}: {int(lengths[row])} tokens do not fit {capacity}; "
            "shorten over-long rows first or raise the window"
        )


def fewest_packs(lengths: RowArray, capacity: int) -> int:
    """A lower bound of the number of packs any packing needs (Martello and Toth's L2).

    For a threshold k, items above capacity - k stay alone, items above capacity / 2 need a pack each, and what is
    left of those packs can take items >= k; the volume beyond that needs more packs. The best k is searched.
    """
    if lengths.size == 0:
        return 0
    counts = np.bincount(lengths, minlength=capacity + 1)
    sizes = np.arange(capacity + 1, dtype=np.int64)
    n_upto = np.concatenate(([0], np.cumsum(counts)))  # n_upto[x]: items of length < x
    v_upto = np.concatenate(([0], np.cumsum(counts * sizes)))
    k = np.arange(capacity // 2 + 1, dtype=np.int64)
    half = capacity // 2 + 1  # lengths >= half share a pack with no other such item
    large = n_upto[-1] - n_upto[capacity - k + 1]
    middle = n_upto[capacity - k + 1] - n_upto[half]
    middle_volume = v_upto[capacity - k + 1] - v_upto[half]
    small_volume = v_upto[half] - v_upto[k]
    spare = middle * capacity - middle_volume
    more = np.maximum(0, -((spare - small_volume) // capacity))
    return int((large + middle + more).max())


def next_fit(lengths: RowArray, capacity: int) -> Packs:
    """The paper's rule: append to the open pack while it fits, else close it and open the next one.

    The order of `lengths` is kept. Unlike the published code the last open pack is kept. O(packs * log items).
    """
    check_fits(lengths, capacity)
    ends = np.cumsum(lengths)
    offsets = [0]
    used = 0
    while offsets[-1] < len(lengths):
        stop = int(np.searchsorted(ends, used + capacity, side="right"))
        used = int(ends[stop - 1])
        offsets.append(stop)
    return Packs(np.arange(len(lengths), dtype=np.int64), np.array(offsets, dtype=np.int64))


def best_fit_decreasing(lengths: RowArray, capacity: int) -> Packs:
    """Longest first, each into the pack with the least free space that still takes it.

    Equal to the textbook algorithm (a pack that took a copy of a length has less space than before, so the next copy
    of this length goes to the same pack while it fits): a pack with free space f takes f // length copies at once,
    and packs with equal free space are handled as one range of pack numbers. Packs have at most `capacity` tokens.
    Raises PlanError for lengths outside 1..capacity.
    """
    check_fits(lengths, capacity)
    counts = np.bincount(lengths, minlength=1)
    distinct = np.flatnonzero(counts)[::-1]
    first_pack, range_packs, copies, total = _fill(distinct.tolist(), counts[distinct].tolist(), capacity)
    # Items in decreasing order meet the filled ranges in the same order: item x of a range lies in its x // copies th.
    by_length = stable_order(capacity - lengths)
    range_items = range_packs * copies
    starts = np.cumsum(range_items) - range_items
    inside = np.arange(len(lengths), dtype=np.int64) - np.repeat(starts, range_items)
    pack_of = np.repeat(first_pack, range_items) + inside // np.repeat(copies, range_items)
    return Packs(by_length[stable_order(pack_of)], offsets_of(np.bincount(pack_of, minlength=total)))


def _fill(lengths: list[int], counts: list[int], capacity: int) -> tuple[IntArray, IntArray, IntArray, int]:
    """The heart of best-fit decreasing over distinct decreasing lengths.

    Returns parallel arrays, one entry a filled range: its first pack, its number of packs, the copies put in each;
    and the number of packs. `spaces[f]` lists the ranges (first, packs) with free space f; a two-level bitmap of
    non-empty f answers "least free space >= length" in constant time.
    """
    shift = max((capacity.bit_length() + 1) // 2, 1)
    mask = (1 << shift) - 1
    words = [0] * ((capacity >> shift) + 1)
    top = 0
    spaces: list[list[tuple[int, int]] | None] = [None] * (capacity + 1)
    out_first: list[int] = []
    out_packs: list[int] = []
    out_copies: list[int] = []
    total = 0

    def keep_open(first: int, packs: int, free: int) -> None:
        nonlocal top
        into = spaces[free]
        if into:
            into.append((first, packs))
        else:
            spaces[free] = [(first, packs)]
            block = free >> shift
            words[block] |= 1 << (free & mask)
            top |= 1 << block

    for length, count in zip(lengths, counts, strict=True):
        while count:
            block = length >> shift
            word = words[block] >> (length & mask)
            if word:
                free = length + (word & -word).bit_length() - 1
                block = free >> shift
            else:
                above = top >> (block + 1)
                if not above:
                    break
                block += (above & -above).bit_length()
                word = words[block]
                free = (block << shift) + (word & -word).bit_length() - 1
            ranges = spaces[free]
            assert ranges is not None
            first, packs = ranges.pop()
            each = free // length
            if packs * each <= count:
                taken = packs
            elif each <= count:
                taken = count // each
                ranges.append((first + taken, packs - taken))
            else:  # fewer copies left than one pack takes
                taken, each = 1, count
                if packs > 1:
                    ranges.append((first + 1, packs - 1))
            if not ranges:
                words[block] ^= 1 << (free & mask)
                if not words[block]:
                    top ^= 1 << block
            out_first.append(first)
            out_packs.append(taken)
            out_copies.append(each)
            count -= taken * each
            free -= each * length
            if free:
                keep_open(first, taken, free)
        while count:  # nothing open takes this length: new packs, all alike, and a last one with the rest
            each = min(capacity // length, count)
            taken = count // each
            out_first.append(total)
            out_packs.append(taken)
            out_copies.append(each)
            free = capacity - each * length
            if free:
                keep_open(total, taken, free)
            total += taken
            count -= taken * each
    return np.array(out_first, np.int64), np.array(out_packs, np.int64), np.array(out_copies, np.int64), total
