"""The effective window: where a score first falls below its threshold, and how certain that is."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import random_for
from longalign.eval.synthetic.effective import effective_window

LENGTHS = (1000, 2000, 4000, 8000)


def window(shares: list[float], n: int = 100, threshold: float = 0.85):  # type: ignore[no-untyped-def]
    scores = {
        length: [1.0] * round(share * n) + [0.0] * (n - round(share * n))
        for length, share in zip(LENGTHS, shares, strict=False)
    }
    return effective_window([scores], threshold, random_for(0, "window"))


def test_it_ends_before_the_first_length_below_the_threshold() -> None:
    assert window([1.0, 0.95, 0.5, 0.4]).tokens == 2000
    assert window([1.0, 0.5, 1.0, 1.0]).tokens == 1000
    assert window([1.0, 1.0, 1.0, 1.0]).tokens == 8000
    assert window([0.5, 0.4, 0.3, 0.2]).tokens is None


def test_a_model_that_reads_poorly_everywhere_keeps_the_window_of_its_own_short_score() -> None:
    found = window([0.6, 0.58, 0.3, 0.1])
    assert (found.tokens, found.of_own) == (None, 2000)
    assert window([0.0, 0.0, 0.0, 0.0]).of_own is None


def test_a_clear_drop_has_a_narrow_interval_and_a_close_one_a_wide_one() -> None:
    clear = window([1.0, 1.0, 0.1, 0.0])
    assert (clear.low, clear.tokens, clear.high) == (2000, 2000, 2000)
    close = window([1.0, 1.0, 0.86, 0.86], n=20)
    assert close.low == 2000
    assert close.high == 8000


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=4), st.floats(0.1, 1))
def test_it_lies_within_what_was_measured_and_its_interval_in_order(
    shares: list[list[float]], threshold: float
) -> None:
    scores = {LENGTHS[i]: values for i, values in enumerate(shares)}
    found = effective_window([scores], threshold, random_for(0, "window"))
    assert found is not None
    low, high = found.low or 0, found.high or 0
    assert low <= high <= found.longest_measured == max(scores)
    assert found.tokens is None or np.mean(scores[found.tokens]) >= threshold - 1e-9


def test_nothing_scored_has_no_window() -> None:
    assert effective_window([{1000: []}, {}], 0.85, random_for(0, "window")) is None
