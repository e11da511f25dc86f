"""Several criteria as one: the weighted mean of ranks, so that no scale and no outlier decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from longalign.errors import ConfigError

MIDDLE = 0.5


def parse_weights(text: str) -> dict[str, float]:
    """`gain=1,spread=0.5` -> weights by criterion; a negative one prefers low values. Raises `ConfigError`."""
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        try:
            weights[name.strip()] = float(value) if equals else 1.0
        except ValueError:
            raise ConfigError(f"--weights: `{part}` is not NAME=NUMBER, for example gain=1,spread=0.5") from None
    if not any(weights.values()) or not all(np.isfinite(value) for value in weights.values()):
        raise ConfigError("--weights: give at least one criterion a weight other than 0, for example gain=1,spread=0.5")
    return weights


def standard_ranks(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Each value's place among those known, evenly over (0, 1); equal values share one, unknown ones get 0.5."""
    found = np.full(len(values), MIDDLE)
    known = [place for place, value in enumerate(values) if value is not None]
    if known:
        ranks = rankdata([values[place] for place in known], method="average")
        found[known] = (ranks - 0.5) / len(known)
    return found


def combined(
    criteria: Mapping[str, Sequence[float | None]], weights: Mapping[str, float], rows: int
) -> NDArray[np.float64]:
    """Weighted mean of the criteria's ranks, in [0, 1], higher is better; a negative weight turns its ranks round."""
    total = np.zeros(rows)
    for name, weight in weights.items():
        ranks = standard_ranks(criteria[name])
        total += abs(weight) * (ranks if weight > 0 else 1 - ranks)
    return total / sum(map(abs, weights.values()))
