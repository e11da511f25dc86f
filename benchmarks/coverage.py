"""How often the intervals of evaluations hold the truth, by simulation (`python -m benchmarks.coverage`).

Every case draws results whose true mean is known, many times over, and counts how often the 95% interval holds it.
Differences of two models: ours, Student's t and the BCa bootstrap that was used before. Means on a scale: ours, and t,
which leaves the scale. Right or wrong: Tango's interval, by summing over all outcomes, without chance.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.measure import RESULTS, write_result
from longalign.core.clustered import cluster_sums, clustered_mean
from longalign.core.paired import mean_difference, paired_share_interval
from longalign.core.stats import mean_interval

CLAIM = (
    "95% intervals hold the truth in 92% of cases or more, also with few clusters, skew and ties; "
    "rare large differences excepted."
)
Floats = NDArray[np.float64]
Drawn = tuple[Floats, list[int] | None]
Draw = Callable[[np.random.Generator], Drawn]
Limits = tuple[float | None, float | None]
TRUTH_DRAWS = 1_000_000
BCA_SHARE = 20  # one in so many trials is given to the slow bootstrap too


def normal(n: int) -> Draw:
    """Differences without skew, as between two models of one kind."""
    return lambda rng: (rng.normal(0.0, 2.0, n), None)


def exponential(n: int) -> Draw:
    """Differences with a long tail to one side."""
    return lambda rng: (rng.exponential(1.0, n), None)


def clustered(sizes: list[int], shared: float, *, skewed: bool = False) -> Draw:
    """Questions about documents: `shared` is the correlation inside one."""
    index = np.repeat(np.arange(len(sizes)), sizes)

    def draw(rng: np.random.Generator) -> Drawn:
        x = np.sqrt(shared) * rng.normal(size=len(sizes))[index] + np.sqrt(1 - shared) * rng.normal(size=len(index))
        return (np.exp(x) if skewed else np.round(2 * x)), index.tolist()

    return draw


def sparse(n: int, share: float) -> Draw:
    """Mostly ties; what differs does so to one side, a few by much."""
    return lambda rng: (np.where(rng.random(n) < share, rng.exponential(1.5, n), 0.0), None)


def graded_ties(n: int, share: float, values: tuple[int, ...], weights: tuple[int, ...]) -> Draw:
    """Ratings that mostly agree."""
    chances = np.array(weights) / sum(weights)
    return lambda rng: (np.where(rng.random(n) < share, rng.choice(np.array(values, float), n, p=chances), 0.0), None)


DIFFERENCES: dict[str, Draw] = {
    "normal, n = 10": normal(10),
    "normal, n = 50": normal(50),
    "normal, n = 200": normal(200),
    "10 clusters of 5, rounded": clustered([5] * 10, 0.5),
    "6 clusters of 5, rounded": clustered([5] * 6, 0.5),
    "10 clusters of 1 to 12": clustered([1, 1, 2, 3, 4, 5, 6, 8, 8, 12], 0.5),
    "20 clusters of 1 to 12": clustered([1, 1, 2, 3, 4, 5, 6, 8, 8, 12] * 2, 0.5),
    "10 clusters of 5, skewed": clustered([5] * 10, 0.5, skewed=True),
    "exponential, n = 20": exponential(20),
    "exponential, n = 50": exponential(50),
    "sparse and skewed, 10% of n = 50": sparse(50, 0.10),
    "sparse and skewed, 15% of n = 50": sparse(50, 0.15),
    "sparse and skewed, 30% of n = 50": sparse(50, 0.30),
    "sparse and skewed, 6% of n = 100": sparse(100, 0.06),
    "85% ties, n = 25": graded_ties(25, 0.15, (-2, -1, 1, 2), (1, 3, 3, 1)),
    "70% ties, n = 25": graded_ties(25, 0.30, (-2, -1, 1, 2), (1, 3, 3, 1)),
    "70% ties, skewed, n = 25": graded_ties(25, 0.30, (-1, 1, 2, 3), (1, 3, 1, 1)),
    "rare and large: 9 points in 2.5% of n = 50": graded_ties(50, 0.10, (1, 9), (3, 1)),
}


def ratings(n: int, a: float, b: float, low: float, high: float, step: float = 0.0) -> Draw:
    """Beta ratings on a scale, in steps."""

    def draw(rng: np.random.Generator) -> Drawn:
        x = low + (high - low) * rng.beta(a, b, n)
        return (np.clip(np.round(x / step) * step, low, high) if step else x), None

    return draw


def rated_documents(documents: int, questions: int) -> Draw:
    """Ratings 1-10 of questions about documents that differ in difficulty."""
    index = np.repeat(np.arange(documents), questions)

    def draw(rng: np.random.Generator) -> Drawn:
        x = 1 + 9 * rng.beta(6, 2, documents)[index] + rng.normal(0, 1.2, len(index))
        return np.clip(np.round(x), 1, 10), index.tolist()

    return draw


def shares_with_zeros(n: int) -> Draw:
    """F1 of answers, most of them 0."""
    return lambda rng: (np.where(rng.random(n) < 0.6, 0.0, rng.beta(2, 1.5, n)), None)


MEANS: dict[str, tuple[Draw, tuple[float, float]]] = {
    **{f"near the top of 1-10, n = {n}": (ratings(n, 6, 1.2, 1, 10, 0.5), (1, 10)) for n in (3, 4, 10, 50)},
    **{f"middle of 1-10, n = {n}": (ratings(n, 2.5, 2, 1, 10, 0.5), (1, 10)) for n in (3, 10, 50)},
    "mostly 3 on 1-3, n = 25": (lambda rng: (rng.choice([1.0, 2.0, 3.0], 25, p=(0.1, 0.2, 0.7)), None), (1, 3)),
    **{f"shares, 60% of them 0, n = {n}": (shares_with_zeros(n), (0, 1)) for n in (10, 25)},
    "near the bottom of 0-100, n = 20": (ratings(20, 0.6, 6, 0, 100), (0, 100)),
    "10 documents of 5, 1-10": (rated_documents(10, 5), (1, 10)),
    "4 documents of 5, 1-10": (rated_documents(4, 5), (1, 10)),
}
RIGHT_OR_WRONG = {
    f"n = {n}, {100 * wins:g}% won, {100 * losses:g}% lost": (n, wins, losses)
    for n in (20, 50, 140)
    for wins, losses in ((0.02, 0.02), (0.1, 0.1), (0.2, 0.1), (0.3, 0.02))
}


def ours(d: Floats, clusters: list[int] | None) -> Limits:
    """`mean_difference`."""
    found = mean_difference(d, clusters, bounded=False)
    return found.low, found.high


def student(x: Floats, clusters: list[int] | None) -> Limits:
    """Student's t with as many degrees of freedom as clusters less one."""
    got = clustered_mean(x, clusters)
    if got.error is None:
        return got.mean, got.mean
    half = float(stats.t.ppf(0.975, got.groups - 1)) * got.error
    return got.mean - half, got.mean + half


def bca(x: Floats, clusters: list[int] | None, rng: np.random.Generator) -> Limits:
    """The BCa bootstrap over whole clusters."""
    sums, sizes = cluster_sums(x, clusters)
    if np.ptp(sums / sizes) < 1e-12:
        return float(x.mean()), float(x.mean())
    found = stats.bootstrap(
        (sums, sizes), lambda s, m, axis: s.sum(axis=axis) / m.sum(axis=axis), paired=True, n_resamples=1999, rng=rng
    ).confidence_interval
    return float(found.low), float(found.high)


def truth(draw: Draw) -> float:
    """The true mean, from very many draws."""
    size = len(draw(np.random.default_rng(0))[0])
    return float(np.mean([draw(np.random.default_rng([1, k]))[0].mean() for k in range(TRUTH_DRAWS // size)]))


def held(limits: Limits, mean: float) -> bool:
    """Whether an interval holds the truth; one without limits does."""
    return all(limit is None or side * (mean - limit) >= -1e-12 for side, limit in zip((1, -1), limits, strict=True))


def differences(trials: int) -> list[dict[str, Any]]:
    """Coverage of each case by three procedures, and how wide ours is against t's."""
    rows = []
    for name, draw in DIFFERENCES.items():
        mean = truth(draw)
        found: dict[str, list[bool]] = {"ours": [], "t": [], "bca": []}
        widths = []
        for trial in range(trials):
            d, clusters = draw(np.random.default_rng([2, trial]))
            mine, plain = ours(d, clusters), student(d, clusters)
            found["ours"].append(held(mine, mean))
            found["t"].append(held(plain, mean))
            widths.append((width(mine), width(plain)))
            if trial % BCA_SHARE == 0:
                found["bca"].append(held(bca(d, clusters, np.random.default_rng([3, trial])), mean))
        wide = np.nanmedian(np.array(widths), axis=0)
        rows.append(line(name, found) | {"width_over_t": round(float(wide[0] / wide[1]), 2)})
        print(rows[-1], flush=True)
    return rows


def means(trials: int) -> list[dict[str, Any]]:
    """Coverage of means on a scale, and how often t leaves it."""
    rows = []
    for name, (draw, scale) in MEANS.items():
        mean = truth(draw)
        found: dict[str, list[bool]] = {"ours": [], "t": []}
        left = 0
        for trial in range(trials):
            x, clusters = draw(np.random.default_rng([2, trial]))
            got = mean_interval(x, clusters, scale=scale)
            low, high = student(x, clusters)
            found["ours"].append(held((got.low, got.high), mean))
            found["t"].append(held((low, high), mean))
            left += low < scale[0] or high > scale[1]  # type: ignore[operator]
        rows.append(line(name, found) | {"t_leaves_scale": round(left / trials, 3)})
        print(rows[-1], flush=True)
    return rows


def right_or_wrong() -> list[dict[str, Any]]:
    """Coverage of Tango's interval, exactly, and how often McNemar's exact test would see a difference instead."""
    rows = []
    for name, (n, wins, losses) in RIGHT_OR_WRONG.items():
        mean, total = wins - losses, 0.0
        for won in range(n + 1):
            for lost in range(n + 1 - won):
                chance = float(stats.multinomial.pmf((won, lost, n - won - lost), n, (wins, losses, 1 - wins - losses)))
                if chance > 1e-9:
                    total += chance * held(paired_share_interval(won, lost, n), mean)
        rows.append({"case": name, "ours": round(total, 4)})
        print(rows[-1], flush=True)
    return rows


def width(limits: Limits) -> float:
    """How wide an interval is."""
    low, high = limits
    return np.nan if low is None or high is None else high - low


def line(name: str, found: dict[str, list[bool]]) -> dict[str, Any]:
    """Coverage by procedure."""
    return {"case": name} | {procedure: round(float(np.mean(hits)), 4) for procedure, hits in found.items()}


def main() -> None:
    """All cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4000)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # the bootstrap's, about resamples that do not vary
    rows = {"differences": differences(asked.trials), "means": means(asked.trials), "right_or_wrong": right_or_wrong()}
    write_result("coverage", CLAIM, rows, folder=RESULTS, trials=asked.trials)


if __name__ == "__main__":
    main()
