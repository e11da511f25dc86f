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

All of them give sequence i a *share* of the step's loss, s_i = 1, N_i, N_i^(1/2) or N_i / (targets of its pack), and

    w_i = s_i / (N_i * sum_j s_j),   so that   sum_i w_i * N_i = 1.

All counts are in the step plan before the step runs: no collective is needed. Ranks whose gradients are averaged over
R ranks multiply their part of the loss by R. Sequences without targets get weight 0 and are not part of M.

To add one, write the function of its shares and give it a line in `WEIGHTINGS`. Settings, training and the plan's
tables of gradient shares know a weighting by its entry there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longalign.errors import ConfigError

FloatArray = NDArray[np.float64]
Shares = Callable[[FloatArray, NDArray[np.int64]], FloatArray]
"""(targets of each sequence, number of its pack from 0) -> its share of the loss, up to a factor that all have."""


@dataclass(frozen=True)
class Weighting:
    """One mode. by_pack: shares depend on packs, so the strategy must fix them; otherwise their numbers are all 0."""

    shares: Shares
    by_pack: bool = False


def _of_plain_packing(targets: FloatArray, packs: NDArray[np.int64]) -> FloatArray:
    totals = np.bincount(packs, weights=targets)
    return targets / np.maximum(totals, 1.0)[packs]


WEIGHTINGS: dict[str, Weighting] = {
    "sequence": Weighting(lambda targets, packs: (targets > 0).astype(np.float64)),
    "token": Weighting(lambda targets, packs: targets),
    "sqrt": Weighting(lambda targets, packs: np.sqrt(targets)),
    "plain_packing": Weighting(_of_plain_packing, by_pack=True),
}


def weighting_of(mode: str) -> Weighting:
    """The entry of `WEIGHTINGS`. Raises ConfigError for a name that is not there."""
    if mode not in WEIGHTINGS:
        raise ConfigError(f"weighting: unknown mode {mode!r}; choose one of {', '.join(WEIGHTINGS)}")
    return WEIGHTINGS[mode]


def sequence_weights(
    target_counts: ArrayLike, mode: str = "sequence", packs: ArrayLike | None = None
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
    weighting = weighting_of(mode)
    if weighting.by_pack and packs is None:
        raise ConfigError(f"weighting: {mode} depends on packs; give the number of each sequence's pack")
    numbers = np.zeros(len(counts), np.int64)
    if weighting.by_pack:
        numbers = np.unique(np.asarray(packs), return_inverse=True)[1]
    targets = counts.astype(np.float64)
    shares = np.where(counts > 0, weighting.shares(targets, numbers), 0.0)
    scale = targets * float(shares.sum())
    return np.divide(shares, scale, out=np.zeros(len(counts)), where=scale > 0)


@dataclass(frozen=True)
class WeightSchedule:
    """The mode of each step: `first` before step `switch`, `last` from then on."""

    first: str
    last: str
    switch: int = 0

    def mode(self, step: int) -> str:
        """The mode in force at `step`."""
        return self.first if step < self.switch else self.last

    def weights(self, target_counts: ArrayLike, step: int, packs: ArrayLike | None = None) -> NDArray[np.float64]:
        """`sequence_weights` of the mode in force at `step`."""
        return sequence_weights(target_counts, self.mode(step), packs)
