"""Statistical power: the smallest difference a number of questions can detect, and the questions a difference needs."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special, stats

CONFIDENCE = 0.95
POWER = 0.80


def minimum_detectable(
    standard_error: float, freedom: float, power: float = POWER, confidence: float = CONFIDENCE
) -> float:
    """The true difference that a two-sided t-test finds with this power (noncentral t)."""
    critical = float(stats.t.ppf((1 + confidence) / 2, freedom))
    shift = optimize.brentq(lambda s: _power(s, critical, freedom) - power, 0.0, critical + 10.0)
    return float(shift) * standard_error


def questions_needed(
    difference: float, deviation: float, power: float = POWER, confidence: float = CONFIDENCE
) -> int | None:
    """Questions at which a paired t-test finds `difference` with this power; None where it is 0.

    `deviation` is the standard deviation of the differences of one question.
    """
    if difference == 0:
        return None
    effect = abs(difference) / deviation if deviation else np.inf

    def enough(n: int) -> bool:
        critical = float(stats.t.ppf((1 + confidence) / 2, n - 1))
        return _power(min(effect * np.sqrt(n), critical + 20), critical, n - 1) >= power

    high = 2
    while not enough(high):
        high *= 2
        if high > 2**40:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _power(shift: float, critical: float, freedom: float) -> float:
    far_tail = np.nan_to_num(special.nctdtr(freedom, shift, -critical))  # nan where it is below 1e-13
    return float(1 - special.nctdtr(freedom, shift, critical) + far_tail)
