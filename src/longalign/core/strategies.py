"""The batching strategies: which sequences every step trains on, and what bounds its microbatches.

padded     random rows, each microbatch padded to its longest row (the paper's naive baseline)
sorted     rows sorted by length, each step a random group of consecutive rows (the paper's; its length bias is real)
packed     rows packed to the window over the whole data, a fixed number of packs a step (the paper's)
balanced   a step is a uniformly random set of rows; inside the step they are packed and spread over the ranks so
           that every rank has the same work. Sampling as in `padded`, speed above `packed`.

To add one, write a function that draws an epoch's steps and give it a line in `STRATEGIES`. Settings, plans, training
and reports know a strategy by its entry there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from longalign.core.order import IntArray, RowArray, even_sizes, offsets_of, ranges, shuffled, stable_order
from longalign.core.packing import Packs, best_fit_decreasing, next_fit
from longalign.core.rules import Packing, PlanRules
from longalign.errors import PlanError


@dataclass(frozen=True)
class Drawn:
    """The steps of one epoch, not yet placed on ranks.

    rows_X: every row number once, step after step. sizes_S: rows of each step. Where the strategy fixes packs, their
    rows stand together: pack_sizes_P are rows of each pack, sizes_S then counts packs, and packs_per_step is the most
    a step has.
    """

    rows_X: RowArray
    sizes_S: IntArray
    pack_sizes_P: IntArray | None = None
    packs_per_step: int | None = None


Draw = Callable[[RowArray, PlanRules, int], Drawn]
"""(lengths_N in tokens, rules, epoch) -> its steps. Draw from (rules.seed, epoch) alone: see core/order.py."""


@dataclass(frozen=True)
class Batching:
    """One strategy. What bounds a microbatch, and how those of a step are dealt to the data ranks:

    padded     at most `rows_per_microbatch` rows, each padded to the longest; dealt in order
    fixed      the packs that `draw` made, whatever the ranks are; dealt in order
    balanced   at most `token_limit` tokens a rank, nothing padded; evened in work (core/layout.py)
    """

    draw: Draw
    microbatches: Literal["padded", "fixed", "balanced"]


def random_groups(lengths_N: RowArray, rules: PlanRules, epoch: int) -> Drawn:
    """Uniformly random sets of rows."""
    order = shuffled(len(lengths_N), rules.seed, epoch)
    return Drawn(order, even_sizes(len(order), rules.sequences_per_step))


def sorted_groups(lengths_N: RowArray, rules: PlanRules, epoch: int) -> Drawn:
    """Rows of neighbouring lengths; the groups in random order."""
    order = shuffled(len(lengths_N), rules.seed, epoch)
    order = order[stable_order(lengths_N[order])]
    sizes = even_sizes(len(order), rules.sequences_per_step)
    groups = shuffled(len(sizes), rules.seed, epoch, 1)
    offsets = offsets_of(sizes)
    return Drawn(order[ranges(offsets[groups], sizes[groups])], sizes[groups])


def random_packs(lengths_N: RowArray, rules: PlanRules, epoch: int) -> Drawn:
    """Packs of the window over the whole data, in random order."""
    order = shuffled(len(lengths_N), rules.seed, epoch)
    packs = PACKINGS[rules.packing](lengths_N[order], rules.window)
    packs_per_step = rules.packs_per_step
    if packs_per_step is None:
        rounds = round(rules.sequences_per_step * len(packs) / len(lengths_N) / rules.data_ranks)
        packs_per_step = max(rounds, 1) * rules.data_ranks
    drawn = shuffled(len(packs), rules.seed, epoch, 1)
    sizes = np.diff(packs.offsets)[drawn]
    rows_X = order[packs.items[ranges(packs.offsets[drawn], sizes)]]
    return Drawn(rows_X, even_sizes(len(packs), packs_per_step), sizes, packs_per_step)


PACKINGS: Mapping[Packing, Callable[[RowArray, int], Packs]] = {"best_fit": best_fit_decreasing, "next_fit": next_fit}
STRATEGIES: dict[str, Batching] = {
    "padded": Batching(random_groups, "padded"),
    "sorted": Batching(sorted_groups, "padded"),
    "packed": Batching(random_packs, "fixed"),
    "balanced": Batching(random_groups, "balanced"),
}


def strategy_of(name: str) -> Batching:
    """The entry of `STRATEGIES`. Raises PlanError for a name that is not there."""
    if name not in STRATEGIES:
        raise PlanError(f"strategy: unknown {name!r}; choose one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
