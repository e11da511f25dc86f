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


def freedom(clusters: list[int]) -> float:
    """Satterthwaite's degrees of freedom, one less than for known means, with correlation 0.5 in a cluster."""
    variances = [0.5 * size + 0.5 * size**2 for size in (clusters.count(c) for c in set(clusters))]
    return max(1.0, sum(variances) ** 2 / sum(v**2 for v in variances) - 1)


def skewed_t_p(d: np.ndarray) -> float:
    """The larger p of Student's t and of Hall's transformed t (Hall 1992, his g with scipy's unbiased skewness)."""
    n = len(d)
    t = d.mean() / (d.std(ddof=1) / math.sqrt(n))
    g = stats.skew(d, bias=False)
    hall = t + g * t**2 / (3 * n**0.5) + g**2 * t**3 / (27 * n) + g / (6 * n**0.5)
    return max(2 * float(stats.t.sf(abs(value), n - 1)) for value in (t, hall))


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
