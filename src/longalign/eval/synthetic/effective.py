"""The effective window: up to which length a model is as good as it should be, with an interval.

The effective window is the longest of the measured lengths up to which every score reaches a threshold: a fixed one
(RULER, arXiv 2404.06654), or a share of the model's own score at the shortest length (NoLiMa, arXiv 2502.05167), which
tells a model that reads poorly from one that loses what is far away. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 2_000


@dataclass(frozen=True, kw_only=True)
class EffectiveWindow:
    """Lengths in tokens; None: shorter than every length that was measured. `low`, `high`: 95% of resamples.

    `of_own`: the same with a threshold relative to the model's score at the shortest length; None without such a score.
    `longest_measured`: a window of this length may be longer in truth.
    """

    tokens: int | None
    low: int | None
    high: int | None
    of_own: int | None
    of_own_low: int | None
    of_own_high: int | None
    threshold: float
    longest_measured: int


def effective_window(
    groups: Sequence[Mapping[int, Sequence[float]]], threshold: float, rng: np.random.Generator
) -> EffectiveWindow | None:
    """From scores (0-1) by length, one mapping for each kind of question; kinds count the same.

    The interval comes from resampling the questions within every kind and length. None without any score.
    """
    scored = [{n: np.asarray(s, dtype=np.float64) for n, s in group.items() if len(s)} for group in groups]
    lengths = sorted({length for group in scored for length in group})
    if not lengths:
        return None
    here = [[group[length] for group in scored if length in group] for length in lengths]
    means_L = np.array([np.mean([scores.mean() for scores in kinds]) for kinds in here])
    drawn_RL = np.stack([np.mean([_resampled(s, rng) for s in kinds], axis=0) for kinds in here], axis=1)
    plain = _reached(means_L[None], threshold)
    own = _reached(means_L[None], threshold * means_L[0])
    low, high = _limits(_reached(drawn_RL, threshold))
    own_low, own_high = _limits(_reached(drawn_RL, threshold * drawn_RL[:, :1]))
    known = means_L[0] > 0

    def tokens(place: int) -> int | None:
        return lengths[place - 1] if place else None

    return EffectiveWindow(
        tokens=tokens(int(plain[0])),
        low=tokens(low),
        high=tokens(high),
        of_own=tokens(int(own[0])) if known else None,
        of_own_low=tokens(own_low) if known else None,
        of_own_high=tokens(own_high) if known else None,
        threshold=threshold,
        longest_measured=lengths[-1],
    )


def _resampled(scores_N: Floats, rng: np.random.Generator) -> Floats:
    means_R: Floats = scores_N[rng.integers(len(scores_N), size=(RESAMPLES, len(scores_N)))].mean(axis=1)
    return means_R


def _reached(means_RL: Floats, threshold: float | Floats) -> NDArray[np.int64]:
    """How many lengths from the shortest on reach the threshold without a gap."""
    reached_RL = np.cumprod(means_RL >= threshold - 1e-12, axis=1)
    return np.asarray(reached_RL.sum(axis=1), dtype=np.int64)


def _limits(places_R: NDArray[np.int64]) -> tuple[int, int]:
    low, high = np.quantile(places_R, [0.025, 0.975], method="inverted_cdf")
    return int(low), int(high)
