"""How much each sequence of an optimizer step counts: the loss weights of the paper and its rivals.

Symbols (LongAlign, arXiv 2401.18058, section 3.2): a step holds M sequences with targets, laid out in K packs.
Sequence i has N_i targets and a summed negative log-likelihood L_i = sum_t nll_t over them.

What is wanted: every sequence counts once.

    (Eq. 2)   loss = 1/M * sum_i L_i / N_i

What plain packing computes, the mean over packs of each pack's mean over targets:

    (Eq. 3)   loss = 1/K * sum_k ( sum_{i in pack k} L_i ) / ( sum_{i in pack k} N_i )

Sequence i enters Eq. 3 with the factor 1 / (K * sum of targets in *its* pack) on L_i, where Eq. 2 has 1 / (M * N_i).
The two agree only if M * N_i = K * (targets of the pack) for every i; otherwise sequences with many targets, and
those in packs of few sequences, are favoured. Multiply L_i by K / (N_i * M), sum inside each pack without dividing
by its targets, and take the mean over packs:

    (Eq. 4)   loss = 1/K * sum_k sum_{i in pack k} K / (N_i * M) * L_i  =  1/M * sum_i L_i / N_i

K cancels: which pack, micro-batch, accumulation step or rank holds a sequence no longer matters. So in general

    loss = sum over all targets t of the step of w(sequence of t) * nll_t

with one weight a sequence that depends on the target counts of the whole step and, but for the last mode below, on
nothing else:

    sequence   w_i = 1 / (N_i * M)                    Eq. 2 = Eq. 4, the paper's choice
    token      w_i = 1 / sum_j N_j                    mean over the step's targets
    sqrt       w_i = N_i^(-1/2) / sum_j N_j^(1/2)     between the two

The rival itself can be had for comparison, with the packs of a plan whose packs are fixed:

    plain_packing   w_i = 1 / (K * sum_{j in pack of i} N_j)     Eq. 3; K counts packs with targets

Each mode satisfies sum_i w_i * N_i = 1. All counts are in the step plan before the step runs: no collective is needed.
Ranks whose gradients are averaged over R ranks multiply their part of the loss by R. Sequences without targets get
weight 0 and are not part of M.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longalign.errors import ConfigError

WeightingMode = Literal["token", "sequence", "sqrt", "plain_packing"]
WEIGHTING_MODES: Sequence[str] = get_args(WeightingMode)


def sequence_weights(
    target_counts: ArrayLike, mode: WeightingMode | str = "sequence", packs: ArrayLike | None = None
) -> NDArray[np.float64]:
    """One loss weight a sequence, from the target counts of one whole optimizer step (all ranks, all packs).

    The step's loss is `sum_i weights[i] * sum_t nll_t` over the targets t of sequence i (Eq. 2-4 above).
    `target_counts` has shape [sequences]; so has the result, and `packs`, the number of each sequence's pack, which
    `plain_packing` needs. Entries with no targets get exactly 0; if no sequence has targets all weights are 0. Raises
    ConfigError for an unknown mode, a negative count or missing packs.
    """
    counts = np.asarray(target_counts)
    if counts.ndim != 1 or (counts.size and counts.min() < 0):
        raise ConfigError("target_counts: one count >= 0 a sequence of the step is needed, as a flat list")
    has_targets = counts > 0
    counts_f = np.where(has_targets, counts, 1).astype(np.float64)
    if mode == "sequence":
        weights = 1.0 / (counts_f * max(int(has_targets.sum()), 1))
    elif mode == "token":
        weights = np.full(counts.shape, 1.0 / max(int(counts.sum()), 1))
    elif mode == "sqrt":
        roots = np.sqrt(counts_f)
        weights = 1.0 / (roots * max(float(roots[has_targets].sum()), 1.0))
    elif mode == "plain_packing":
        if packs is None:
            raise ConfigError("weighting: plain_packing depends on packs; give the number of each sequence's pack")
        numbers = np.unique(np.asarray(packs), return_inverse=True)[1]
        totals = np.bincount(numbers, weights=counts, minlength=1)
        weights = 1.0 / (max(int((totals > 0).sum()), 1) * np.maximum(totals, 1.0)[numbers])
    else:
        raise ConfigError(f"weighting: unknown mode {mode!r}; choose one of {', '.join(WEIGHTING_MODES)}")
    return np.where(has_targets, weights, 0.0)


@dataclass(frozen=True)
class WeightSchedule:
    """The mode of each step: `first` before step `switch`, `last` from then on."""

    first: WeightingMode
    last: WeightingMode
    switch: int = 0

    def mode(self, step: int) -> WeightingMode:
        """The mode in force at `step`."""
        return self.first if step < self.switch else self.last

    def weights(self, target_counts: ArrayLike, step: int, packs: ArrayLike | None = None) -> NDArray[np.float64]:
        """`sequence_weights` of the mode in force at `step`."""
        return sequence_weights(target_counts, self.mode(step), packs)
