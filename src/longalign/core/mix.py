"""How much of each file a mix takes.

Files with a weight share T rows, or T tokens: file i gets

    q_i = T * w_i / W,   W = sum of the weights.

Each row of file i may be used E_i times (`epochs`, 1 by default), so file i can give at most c_i = E_i * n_i, where n_i
is what it holds. Without a total, T is the largest amount that all of them can give:

    T = min_i c_i * W / w_i

The file that sets this minimum is used up, the others in proportion. Weights are read as the decimal fractions they
were written as: 0.3 is 3/10.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from longalign.errors import ConfigError


def exact(number: float) -> Fraction:
    """The decimal fraction that `number` was written as."""
    return Fraction(repr(number))


def quotas(
    weights: Mapping[str, float], most: Mapping[str, Fraction], *, total: int | None, whole: bool
) -> dict[str, Fraction]:
    """q_i of the weighted files; `most`: c_i. `whole`: the sum is a whole number (of rows).

    Raises `ConfigError` naming the first file that cannot give its part of `total`.
    """
    parts = {name: exact(weight) for name, weight in weights.items()}
    all_parts = sum(parts.values(), Fraction(0))
    shared = min(most[name] * all_parts / part for name, part in parts.items())
    if total is not None:
        for name, part in parts.items():
            if total * part > most[name] * all_parts:
                raise ConfigError(
                    f"{name}: its weight asks for {float(total * part / all_parts):,.0f}, and it can give "
                    f"{float(most[name]):,.0f}; allow more `epochs` of it, or lower mix_total or its weight"
                )
        shared = Fraction(total)
    elif whole:
        shared = Fraction(int(shared))
    return {name: shared * part / all_parts for name, part in parts.items()}


def whole_rows(wanted: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole numbers with the same sum, each less than one away: the largest remainders are rounded up."""
    down = {name: int(amount) for name, amount in wanted.items()}
    left = round(sum(wanted.values(), Fraction(0))) - sum(down.values())
    by_remainder = sorted(wanted, key=lambda name: down[name] - wanted[name])  # stable: the first file wins a tie
    return {name: count + (name in by_remainder[:left]) for name, count in down.items()}


def nearest_rows(wanted: Fraction, tokens_R: NDArray[np.int64], order_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each row is used so that their tokens come nearest to `wanted`.

    Every row as often as all of them fit, then the first rows of `order_R`. At most half a row's tokens are missing or
    too many.
    """
    total = int(tokens_R.sum())
    if total == 0:
        return np.zeros(len(tokens_R), dtype=np.int64)
    passes, rest = divmod(wanted, total)
    reached_R1 = np.concatenate(([0], np.cumsum(tokens_R[order_R])))
    above = int(np.searchsorted(reached_R1, float(rest)))
    before = max(above - 1, 0)
    above = min(above, len(tokens_R))
    closer = before if rest - int(reached_R1[before]) <= int(reached_R1[above]) - rest else above
    times_R = np.full(len(tokens_R), int(passes), dtype=np.int64)
    times_R[order_R[:closer]] += 1
    return times_R
