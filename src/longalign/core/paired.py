"""Two systems on the same questions: the difference with limits and a p-value that never contradict each other.

Both come out of one procedure: `p < 1 - confidence` exactly where the interval excludes 0. For right or wrong answers
that is McNemar's score test and Tango's interval, its inversion. Else it is `mean_difference`. How often the intervals
hold the truth: benchmarks/coverage.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from longalign.core.clustered import ClusteredMean, Clusters, Scale, cluster_sums, clustered_mean, unseen_limits, vector
from longalign.core.power import CONFIDENCE, minimum_detectable, questions_needed

TINY = 1e-300
EXACT_FLIPS = 14  # 2**14 sign patterns are enumerated; above that they are drawn


@dataclass(frozen=True)
class Difference:
    """A mean difference; limits are None, and p is 1, where too little is known to say anything."""

    estimate: float
    low: float | None
    high: float | None
    p: float


@dataclass(frozen=True)
class PairedComparison:
    """Two systems on the same questions; `difference` is mean of b minus mean of a, per question.

    `low`, `high` and `p` come from the procedure that `test` names. `sign_flip_p` is a second opinion that assumes no
    distribution. `minimum_detectable` is the difference that this many questions would show with 80% power at 5%,
    `n_needed` how many questions the observed difference would need.
    """

    n: int
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    p: float
    test: str
    sign_flip_p: float
    wins: int
    ties: int
    losses: int
    minimum_detectable: float | None
    n_needed: int | None


def paired_comparison(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    clusters: Clusters = None,
    confidence: float = CONFIDENCE,
    scale: Scale = None,
) -> PairedComparison:
    """Compare two systems question by question.

    `scale`: the lowest and the highest value there can be. Without it limits may be larger than any difference can be.
    """
    x, y = vector(a), vector(b)
    if len(x) != len(y):
        raise ValueError(f"a paired comparison needs as many values of a as of b, got {len(x)} and {len(y)}")
    d = y - x
    wins, losses = int((d > 0).sum()), int((d < 0).sum())
    if clusters is None and np.isin((x, y), (0, 1)).all():
        low, high = paired_share_interval(wins, losses, len(d), confidence)
        found, test = Difference(float(d.mean()), low, high, paired_share_p(wins, losses)), "McNemar, score"
    else:
        span = float(max(x.max(), y.max()) - min(x.min(), y.min())) if scale is None else float(scale[1] - scale[0])
        found = mean_difference(d, clusters, confidence, span, bounded=scale is not None)
        test = "t, corrected for skewness"
    spread = clustered_mean(d, clusters)
    return PairedComparison(
        n=len(d),
        mean_a=float(x.mean()),
        mean_b=float(y.mean()),
        difference=found.estimate,
        low=found.low,
        high=found.high,
        p=found.p,
        test=test,
        sign_flip_p=sign_flip_p(d, rng, clusters),
        wins=wins,
        ties=len(d) - wins - losses,
        losses=losses,
        minimum_detectable=minimum_detectable(spread.error, spread.freedom) if spread.error else None,
        n_needed=questions_needed(found.estimate, spread.error * np.sqrt(len(d))) if spread.error else None,
    )


def mean_difference(
    differences: ArrayLike,
    clusters: Clusters = None,
    confidence: float = CONFIDENCE,
    span: float = 0.0,
    *,
    bounded: bool,
) -> Difference:
    """Mean of differences with the wider of two intervals, and the larger of their p-values.

    One is Student's t, the other Hall's transformation of t (1992), which corrects for skewness:
    `t + a/3 t^2 + a^2/27 t^3 + a/6` with `a = skewness / sqrt(G)`. Student's alone is too narrow where a few large
    differences decide, Hall's where nearly all are ties. `span`: the largest difference that there can be, for the
    case that all differences are equal; with `bounded` no limit goes beyond it.
    """
    d = vector(differences)
    got = clustered_mean(d, clusters)
    if got.error is None:
        return _all_equal(got, span, confidence)
    a = got.skewness / float(np.sqrt(got.groups))
    t, critical = got.mean / got.error, float(stats.t.ppf((1 + confidence) / 2, got.freedom))
    low = got.mean - max(critical, _untransformed(critical, a)) * got.error
    high = got.mean - min(-critical, _untransformed(-critical, a)) * got.error
    p = max(float(2 * stats.t.sf(abs(value), got.freedom)) for value in (t, _transformed(t, a)))
    if bounded:
        low, high = max(low, -span), min(high, span)
    return Difference(got.mean, low, high, p)


def _transformed(t: float, a: float) -> float:
    return t + a / 3 * t**2 + a**2 / 27 * t**3 + a / 6


def _untransformed(value: float, a: float) -> float:
    """The t whose transformed value this is; the transformation rises everywhere."""
    return value if abs(a) < 1e-9 else float(3 / a * (np.cbrt(1 + a * (value - a / 6)) - 1))


def _all_equal(got: ClusteredMean, span: float, confidence: float) -> Difference:
    """What equal differences show; p is where the limit of `unseen_limits` reaches 0."""
    if span == 0:
        return Difference(got.mean, None, None, 1.0)
    low, high = unseen_limits(got, (-span, span), confidence)
    p = 2 * (span / (span + abs(got.mean))) ** got.groups
    return Difference(got.mean, low, high, min(1.0, p))


def paired_share_p(wins: int, losses: int) -> float:
    """McNemar's score test, two-sided: whether Tango's interval holds 0. Better than the exact test, which rejects too
    rarely (Fagerland, Lydersen & Laake 2013, doi 10.1186/1471-2288-13-91)."""
    return float(2 * stats.norm.sf(abs(wins - losses) / np.sqrt(wins + losses))) if wins + losses else 1.0


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
    clusters: Clusters = None,
    draws: int = 20_000,
) -> float:
    """Two-sided p of "the sign of each difference is a coin toss" (Fisher's randomisation test).

    Exact by enumeration for few non-zero differences; otherwise drawn, with the observed pattern counted
    in (Phipson & Smyth 2010), so p is never 0. Clusters flip together.
    """
    sums, _ = cluster_sums(vector(differences), clusters)
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
