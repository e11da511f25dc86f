"""Intervals of means and shares, many p-values at once, and rank correlation, for evaluation results.

With 50 questions a mean score of 1-10 carries a standard error of about 0.4, so a difference such as
5.76 against 6.21 says little by itself. These functions say how much. Everything takes plain arrays.
Two systems on the same questions: `paired.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from longalign.core.clustered import Clusters, Scale, clustered_mean, unseen_limits, vector
from longalign.core.power import CONFIDENCE

OUTSIDE = 1e-9  # how far rounding may put a value outside its scale


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits; limits are None where `n` is too small to have any."""

    estimate: float
    low: float | None
    high: float | None
    n: int


def mean_interval(
    values: ArrayLike, clusters: Clusters = None, confidence: float = CONFIDENCE, scale: Scale = None
) -> Interval:
    """Mean with a t-interval; questions that share a document are not independent, so they may be clustered.

    With a `scale`, the lowest and the highest value there can be, the interval is computed for the logit of the mean
    and so stays inside the scale; where all values are equal it allows for others that were not drawn. Without one,
    equal values have no limits. The error and its degrees of freedom: `ClusteredMean`.
    """
    x = vector(values)
    got = clustered_mean(x, clusters)
    if scale is None:
        if got.error is None:
            return Interval(got.mean, None, None, len(x))
        half = float(stats.t.ppf((1 + confidence) / 2, got.freedom)) * got.error
        return Interval(got.mean, got.mean - half, got.mean + half, len(x))
    low, high = map(float, scale)
    if x.min() < low - OUTSIDE or x.max() > high + OUTSIDE:
        raise ValueError(f"values from {x.min():g} to {x.max():g} are not on the scale of {low:g} to {high:g}")
    if got.error is None:
        below, above = unseen_limits(got, (low, high), confidence)
        return Interval(got.mean, below, above, len(x))
    share = (got.mean - low) / (high - low)
    half = float(stats.t.ppf((1 + confidence) / 2, got.freedom)) * got.error / (high - low) / (share * (1 - share))
    below, above = (low + (high - low) * float(special.expit(special.logit(share) + side * half)) for side in (-1, 1))
    return Interval(got.mean, below, above, len(x))


def wilson_interval(successes: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Share of successes with Wilson's score interval (Wilson 1927), sound also at 0 and n.

    A mean of several counts will do.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} is not a share")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being many (Holm 1979), in the given order."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class RankCorrelation:
    """Agreement of two scorers in rank; None where one of them gives the same score to all."""

    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None
    kendall: float | None
    n: int


def rank_correlation(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> RankCorrelation:
    """Spearman's rho with Bonett & Wright's (2000) interval, and Kendall's tau-b (ties allowed)."""
    x, y = vector(a), vector(b)
    n = len(x)
    if n < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(None, None, None, None, n)
    rho = float(stats.spearmanr(x, y).statistic)
    tau = float(stats.kendalltau(x, y).statistic)
    if n < 4 or abs(rho) >= 1:
        return RankCorrelation(rho, None, None, tau, n)
    half = float(stats.norm.ppf((1 + confidence) / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3)))
    low, high = np.tanh(np.arctanh(rho) + np.array([-half, half]))
    return RankCorrelation(rho, float(low), float(high), tau, n)
