"""The arithmetic of a mix: shares as asked, sums exact, nobody gives more than it has."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from longalign.core.mix import nearest_rows, quotas, whole_rows
from longalign.errors import ConfigError

WEIGHTS = st.decimals(min_value="0.01", max_value="10", places=2).map(float)
FILES = st.lists(st.tuples(WEIGHTS, st.integers(1, 5000)), min_size=1, max_size=6)


def named(files: list[tuple[float, int]]) -> tuple[dict[str, float], dict[str, Fraction]]:
    return (
        {str(number): weight for number, (weight, _) in enumerate(files)},
        {str(number): Fraction(most) for number, (_, most) in enumerate(files)},
    )


@settings(max_examples=40)
@given(FILES)
def test_shares_of_rows_are_within_one_row_and_no_file_gives_more_than_it_has(files: list[tuple[float, int]]) -> None:
    weights, most = named(files)
    rows = whole_rows(quotas(weights, most, total=None, whole=True))
    total = sum(rows.values())
    for name, weight in weights.items():
        assert abs(rows[name] - total * weight / sum(weights.values())) < 1 + 1e-9
        assert 0 <= rows[name] <= most[name]
    parts = {name: Fraction(str(weight)) for name, weight in weights.items()}
    one_more = {name: part / sum(parts.values()) * (total + 1) for name, part in parts.items()}
    assert any(one_more[name] > most[name] for name in parts), "a larger mix would need repetition"


@settings(max_examples=40)
@given(FILES, st.integers(1, 400), st.integers(0, 5), WEIGHTS)
def test_a_total_is_met_exactly_and_a_larger_weight_never_gives_less(
    files: list[tuple[float, int]], total: int, which: int, more: float
) -> None:
    assume(which < len(files))
    weights, most = named(files)
    most = {name: amount + 10_000 for name, amount in most.items()}
    before = whole_rows(quotas(weights, most, total=total, whole=True))
    assert sum(before.values()) == total
    raised = weights | {str(which): weights[str(which)] + more}
    after = quotas(raised, most, total=total, whole=True)
    assert after[str(which)] >= quotas(weights, most, total=total, whole=True)[str(which)]


def test_weights_are_the_decimal_fractions_that_were_written() -> None:
    """In binary 0.3 is less than 3/10, and a row would be missing."""
    weights, most = named([(0.3, 30), (0.7, 70)])
    assert whole_rows(quotas(weights, most, total=None, whole=True)) == {"0": 30, "1": 70}
    weights, most = named([(0.1, 10), (0.2, 20), (0.7, 700)])
    assert whole_rows(quotas(weights, most, total=None, whole=True)) == {"0": 10, "1": 20, "2": 70}


def test_a_total_that_a_file_cannot_give_is_refused_by_name() -> None:
    weights, most = named([(0.5, 30), (0.5, 70)])
    with pytest.raises(ConfigError, match="0: its weight asks for 50, and it can give 30; allow more `epochs`"):
        quotas(weights, most, total=100, whole=True)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=40), st.fractions(0, 20_000), st.integers(0, 9))
def test_tokens_come_within_half_a_row_of_what_is_wanted(tokens: list[int], wanted: Fraction, seed: int) -> None:
    tokens_R = np.array(tokens)
    assume(tokens_R.sum() > 0)
    order_R = np.random.default_rng(seed).permutation(len(tokens))
    times_R = nearest_rows(wanted, tokens_R, order_R)
    assert abs(int(times_R @ tokens_R) - wanted) <= Fraction(max(tokens), 2)
    assert times_R.max() - times_R.min() <= 1, "no row is used twice more than another"
