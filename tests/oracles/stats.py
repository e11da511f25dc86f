"""Plain definitions of the statistics, by loops, enumeration and root finding."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import special, stats


def clustered_error(values: list[float], clusters: list[int]) -> float:
    """The sandwich estimator of a mean: regression on a constant, score sums per cluster."""
    n, mean = len(values), sum(values) / len(values)
    groups = sorted(set(clusters))
    meat = sum(sum(v - mean for v, c in zip(values, clusters, strict=True) if c == g) ** 2 for g in groups)
    return math.sqrt(len(groups) / (len(groups) - 1) * meat) / n


def sign_flip_p(differences: list[float]) -> float:
    """Share of all sign patterns at least as extreme as the observed one."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


def bca_mean(values: np.ndarray, rng: np.random.Generator, draws: int, confidence: float) -> tuple[float, float]:
    """Efron and Tibshirani (1993), chapter 14, step by step."""
    n, mean = len(values), values.mean()
    boot = np.sort([values[rng.integers(0, n, n)].mean() for _ in range(draws)])
    z0 = stats.norm.ppf(((boot < mean).sum() + 0.5 * (boot == mean).sum()) / draws)
    jack = np.array([np.delete(values, i).mean() for i in range(n)])
    lean = jack.mean() - jack
    acceleration = (lean**3).sum() / (6 * (lean**2).sum() ** 1.5)
    limits = []
    for z in (stats.norm.ppf((1 - confidence) / 2), stats.norm.ppf((1 + confidence) / 2)):
        level = stats.norm.cdf(z0 + (z0 + z) / (1 - acceleration * (z0 + z)))
        limits.append(float(np.quantile(boot, level)))
    return limits[0], limits[1]


def holm_rejects(p_values: list[float], alpha: float) -> list[bool]:
    """Holm's procedure as written: go up the ordered p-values, stop at the first that fails."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] * (len(p_values) - step) > alpha:
            break
        rejected[index] = True
    return rejected


def paired_share_score(wins: int, losses: int, n: int, difference: float) -> float:
    """Tango's statistic with the likeliest chance of a loss found by search, not by his formula."""
    lost = np.linspace(max(0.0, -difference), (1 - difference) / 2, 1_000_001)
    won, tied = (np.maximum(chance, 0.0) for chance in (lost + difference, 1 - 2 * lost - difference))
    likelihood = special.xlogy(wins, won) + special.xlogy(losses, lost) + special.xlogy(n - wins - losses, tied)
    spread = 2 * float(lost[np.argmax(likelihood)]) + difference * (1 - difference)
    return (wins - losses - n * difference) / math.sqrt(n * spread)
