"""Planning by its definitions: plain loops over single sequences, no counting tricks, no arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Textbook: longest first, each into the fullest pack that still takes it."""
    packs: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        free = [capacity - sum(lengths[j] for j in pack) for pack in packs]
        fitting = [p for p in range(len(packs)) if free[p] >= lengths[item]]
        if fitting:
            packs[min(fitting, key=lambda p: free[p])].append(item)
        else:
            packs.append([item])
    return packs


def next_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """The paper's rule, with the last open pack kept."""
    packs: list[list[int]] = []
    used = capacity
    for item, length in enumerate(lengths):
        if used + length > capacity:
            packs.append([])
            used = 0
        packs[-1].append(item)
        used += length
    return packs


def fewest_packs(lengths: Sequence[int], capacity: int) -> int:
    """The true optimum by trying every assignment (a handful of items only)."""
    for packs in range(1, len(lengths) + 1):
        for choice in product(range(packs), repeat=len(lengths)):
            loads = [0] * packs
            for length, pack in zip(lengths, choice, strict=True):
                loads[pack] += length
            if max(loads) <= capacity:
                return packs
    return 0


def equation_2(losses: Sequence[Fraction], targets: Sequence[int]) -> Fraction:
    """Mean over sequences with targets of each one's mean over its targets."""
    means = [loss / n for loss, n in zip(losses, targets, strict=True) if n]
    return sum(means, Fraction(0)) / len(means)


def equation_3(losses: Sequence[Fraction], targets: Sequence[int], packs: Sequence[Sequence[int]]) -> Fraction:
    """Mean over packs of each pack's mean over its targets: what plain packing computes."""
    means = [sum((losses[i] for i in pack), Fraction(0)) / sum(targets[i] for i in pack) for pack in packs]
    return sum(means, Fraction(0)) / len(packs)


def equation_4(losses: Sequence[Fraction], targets: Sequence[int], packs: Sequence[Sequence[int]]) -> Fraction:
    """Sequence i scaled by K / (N_i M), summed inside each pack, mean over packs."""
    K, M = len(packs), sum(n > 0 for n in targets)
    sums = [sum((Fraction(K, targets[i] * M) * losses[i] for i in pack if targets[i]), Fraction(0)) for pack in packs]
    return sum(sums, Fraction(0)) / K


def step_seconds(
    ranks: Sequence[Sequence[Sequence[int]]], flops: Callable[[int], float], *, padded: bool, sync: str
) -> tuple[float, float]:
    """(time, summed useful work) of one step whose rank r runs microbatches of the given lengths at 1 FLOP/s.

    sync: "microbatch": all ranks wait for the slowest in each round; "step": only at the end.
    """

    def run(pack: Sequence[int]) -> float:
        return len(pack) * flops(max(pack)) if padded else sum(flops(length) for length in pack)

    useful = sum(flops(length) for rank in ranks for pack in rank for length in pack)
    if sync == "step":
        return max(sum(run(pack) for pack in rank) for rank in ranks), useful
    rounds = max(len(rank) for rank in ranks)
    return sum(max(run(rank[m]) if m < len(rank) else 0.0 for rank in ranks) for m in range(rounds)), useful
