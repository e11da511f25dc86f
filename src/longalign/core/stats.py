"""Intervals, paired tests and rank correlation for evaluation results.

With 50 questions a mean score of 1-10 carries a standard error of about 0.4, so a difference such as
5.76 against 6.21 says little by itself. These functions say how much. Everything takes plain arrays;
every resampling takes a generator, so the caller decides the seed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from longalign.core.power import CONFIDENCE, minimum_detectable, questions_needed

Floats = NDArray[np.float64]
TINY = 1e-300
EXACT_FLIPS = 14  # 2**14 sign patterns are enumerated; above that they are drawn


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence limits; limits are None where `n` is too small to have any."""

    estimate: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class PairedComparison:
    """Two systems on the same questions; `difference` is mean of b minus mean of a, per question.

    `low` and `high` are the limits to quote: Tango's for right or wrong, else the bootstrap's.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    t_low: float | None
    t_high: float | None
    t_p: float | None
    bca_low: float
    bca_high: float
    sign_flip_p: float
    wins: int
    ties: int
    losses: int
    minimum_detectable: float | None
    n_needed: int | None


def mean_interval(
    values: ArrayLike, clusters: Sequence[Hashable] | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """Mean with a t-interval; questions that share a document are not independent, so they may be clustered.

    Clustered standard error (Liang & Zeger 1986; for evaluations Miller 2024, arXiv 2411.00640):
    `se^2 = G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2`, with G-1 degrees of freedom.
    One value a cluster gives the usual `s / sqrt(n)`.
    """
    x = _vector(values)
    mean = float(x.mean())
    error, freedom = _standard_error(x, clusters)
    if error is None:
        return Interval(mean, None, None, len(x))
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Interval(mean, mean - half, mean + half, len(x))


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Share of successes with Wilson's score interval (Wilson 1927), sound also at 0 and n."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} is not a share")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)


def bca_interval(
    values: ArrayLike,
    rng: np.random.Generator,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = 9999,
) -> Interval:
    """Mean with a bias-corrected and accelerated bootstrap interval (Efron 1987); whole clusters are drawn."""
    x = _vector(values)
    sums, sizes = _cluster_sums(x, clusters)
    mean = float(x.mean())
    if np.ptp(sums / sizes) <= 1e-12 * (1 + abs(mean)):  # nothing varies: the interval is the point
        return Interval(mean, mean, mean, len(x))
    result = stats.bootstrap(
        (sums, sizes),
        lambda s, m, axis: s.sum(axis=axis) / m.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(sums)),
        confidence_level=confidence,
        method="BCa",
        rng=rng,
    ).confidence_interval
    return Interval(mean, float(result.low), float(result.high), len(x))


def paired_comparison(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
) -> PairedComparison:
    """Compare two systems question by question: t and BCa intervals, sign-flip p, wins, power.

    `minimum_detectable` is the difference that this many questions would show with 80% power at 5%;
    `n_needed` is how many questions the observed difference would need.
    """
    x, y = _vector(a), _vector(b)
    if len(x) != len(y):
        raise ValueError(f"a paired comparison needs as many values of a as of b, got {len(x)} and {len(y)}")
    d = y - x
    t = mean_interval(d, clusters, confidence)
    error, freedom = _standard_error(d, clusters)
    bca = bca_interval(d, rng, clusters, confidence)
    limits = tuple(t.estimate if limit is None else limit for limit in (bca.low, bca.high))
    wins, losses = int((d > 0).sum()), int((d < 0).sum())
    graded = clusters is not None or not np.isin((x, y), (0, 1)).all()
    quoted = limits if graded else paired_share_interval(wins, losses, len(d), confidence)
    p = float(2 * stats.t.sf(abs(t.estimate) / error, freedom)) if error else None
    return PairedComparison(
        n=len(d),
        mean_a=float(x.mean()),
        mean_b=float(y.mean()),
        difference=t.estimate,
        low=quoted[0],
        high=quoted[1],
        t_low=t.low,
        t_high=t.high,
        t_p=p,
        bca_low=limits[0],
        bca_high=limits[1],
        sign_flip_p=sign_flip_p(d, rng, clusters),
        wins=wins,
        ties=len(d) - wins - losses,
        losses=losses,
        minimum_detectable=minimum_detectable(error, freedom) if error else None,
        n_needed=questions_needed(t.estimate, error * np.sqrt(len(d))) if error else None,
    )


def paired_share_interval(wins: int, losses: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Limits of the difference of two shares on the same `n` questions: Tango's score interval (1998).

    Wide where few questions are asked, also when every one of them ends in a tie, where resampling sees no spread.
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))

    def score(difference: float) -> float:
        """How many standard errors the observed difference lies above this one, if this one held."""
        b = -wins - losses + (2 * n - wins + losses) * difference
        c = -losses * difference * (1 - difference)
        lost = (np.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # likeliest chance of a loss
        variance = max(n * (2 * lost + difference * (1 - difference)), TINY)
        return float(np.clip((wins - losses - n * difference) / np.sqrt(variance), -2 * z, 2 * z))

    estimate, edge = (wins - losses) / n, 1 - 1e-12
    low = optimize.brentq(lambda d: score(d) - z, -edge, estimate) if estimate > -edge else -1.0
    high = optimize.brentq(lambda d: score(d) + z, estimate, edge) if estimate < edge else 1.0
    return float(low), float(high)


def sign_flip_p(
    differences: ArrayLike,
    rng: np.random.Generator,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 20_000,
) -> float:
    """Two-sided p of "the sign of each difference is a coin toss" (Fisher's randomisation test).

    Exact by enumeration for few non-zero differences; otherwise drawn, with the observed pattern counted
    in (Phipson & Smyth 2010), so p is never 0. Clusters flip together.
    """
    sums, _ = _cluster_sums(_vector(differences), clusters)
    sums = sums[sums != 0]
    if len(sums) == 0:
        return 1.0
    bar = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if len(sums) <= EXACT_FLIPS:
        patterns = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1
        return float((np.abs((2 * patterns - 1) @ sums) >= bar).mean())
    hits, left = 0, draws
    while left:
        batch = min(left, 1 + 4_000_000 // len(sums))
        signs = 2 * rng.integers(0, 2, size=(batch, len(sums)), dtype=np.int8) - 1
        hits += int((np.abs(signs @ sums) >= bar).sum())
        left -= batch
    return (hits + 1) / (draws + 1)


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar test on right-or-wrong answers: questions only a, only b got right."""
    discordant = only_a + only_b
    return 1.0 if discordant == 0 else float(stats.binomtest(only_a, discordant, 0.5).pvalue)


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
    x, y = _vector(a), _vector(b)
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


def _vector(values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("statistics need at least one value, all finite; leave unscored ones out and count them")
    return x


def _cluster_sums(x: Floats, clusters: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Sum and size of each cluster, in order of first appearance; without clusters, each value is one."""
    if clusters is None:
        return x, np.ones_like(x)
    if len(clusters) != len(x):
        raise ValueError(f"{len(x)} values but {len(clusters)} cluster labels")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    return np.bincount(index, weights=x).astype(np.float64), np.bincount(index).astype(np.float64)


def _standard_error(x: Floats, clusters: Sequence[Hashable] | None) -> tuple[float | None, int]:
    """Standard error of the mean and its degrees of freedom; None below two clusters."""
    residuals, _ = _cluster_sums(x - x.mean(), clusters)
    groups = len(residuals)
    if groups < 2:
        return None, 0
    return float(np.sqrt(groups / (groups - 1) * (residuals**2).sum())) / len(x), groups - 1
