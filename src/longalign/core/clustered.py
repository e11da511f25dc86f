"""The mean of values that come in clusters, such as questions about one document, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Clusters = Sequence[Hashable] | None
Scale = tuple[float, float] | None
"""The lowest and the highest value there can be."""

WITHIN = 0.5  # assumed correlation inside a cluster; it only counts where clusters differ in size
SAME = 1e-12  # values closer than this, relative to their size, do not vary


@dataclass(frozen=True)
class ClusteredMean:
    """A mean and what its interval needs. `error` is None where nothing varies, or where there is one cluster only.

    The error is the sandwich estimate (Liang & Zeger 1986; for evaluations Miller 2024, arXiv 2411.00640):
    `error^2 = G/(G-1) * sum_g (sum_{i in g} (x_i - mean))^2 / n^2`. `freedom` is G - 1 for clusters of one size, less
    where a few large ones decide (Satterthwaite 1946, correlation 0.5 inside a cluster). `skewness` is that of the G
    cluster sums, 0 for fewer than three.
    """

    mean: float
    error: float | None
    freedom: float
    skewness: float
    groups: int
    n: int


def clustered_mean(x: Floats, clusters: Clusters = None) -> ClusteredMean:
    """The mean of a vector; without clusters, each value is one."""
    mean = float(x.mean())
    sums, sizes = cluster_sums(x, clusters)
    residuals = sums - sizes * mean
    groups, squares = len(sums), float(residuals @ residuals)
    if groups < 2 or squares <= (SAME * (1 + abs(mean)) * len(x)) ** 2:
        return ClusteredMean(mean, None, 0.0, 0.0, groups, len(x))
    error = float(np.sqrt(groups / (groups - 1) * squares)) / len(x)
    weights = sizes * (1 + WITHIN * (sizes - 1))
    freedom = max(1.0, float(weights.sum() ** 2 / (weights @ weights)) - 1)
    skewness = 0.0
    if groups > 2:
        plain = float((residuals**3).mean() / (squares / groups) ** 1.5)
        skewness = plain * float(np.sqrt(groups * (groups - 1))) / (groups - 2)
    return ClusteredMean(mean, error, freedom, skewness, groups, len(x))


def unseen_limits(got: ClusteredMean, scale: tuple[float, float], confidence: float) -> tuple[float, float]:
    """Limits of a mean where all values are equal: as many others as could have stayed unseen, all at one end.

    A share of `1 - (alpha/2)^(1/G)` of clusters stays unseen with probability alpha/2 (Clopper & Pearson 1934).
    """
    unseen = 1 - ((1 - confidence) / 2) ** (1 / got.groups)
    low, high = scale
    return got.mean - unseen * (got.mean - low), got.mean + unseen * (high - got.mean)


def cluster_sums(x: Floats, clusters: Clusters) -> tuple[Floats, Floats]:
    """Sum and size of each cluster, in order of first appearance; without clusters, each value is one."""
    if clusters is None:
        return x, np.ones_like(x)
    if len(clusters) != len(x):
        raise ValueError(f"{len(x)} values but {len(clusters)} cluster labels")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    return np.bincount(index, weights=x).astype(np.float64), np.bincount(index).astype(np.float64)


def vector(values: ArrayLike) -> Floats:
    """Values as a vector. Raises `ValueError` where there is none, or one is not finite."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("statistics need at least one value, all finite; leave unscored ones out and count them")
    return x
