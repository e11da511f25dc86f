"""Shares of tokens by window: kept to within a sequence, with as many tokens as the shares allow."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from longalign.core.window_mix import LEFT_OUT, pieces, window_of_each

WINDOWS = (8, 32, 64)


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 64), min_size=1, max_size=40),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(0, 9),
)
def test_each_window_has_its_share_of_as_many_tokens_as_possible(
    lengths: list[int], parts: list[int], seed: int
) -> None:
    lengths_N = np.array(lengths)
    windows = WINDOWS[-len(parts) :]
    shares = {window: part / sum(parts) for window, part in zip(windows, parts, strict=True)}
    bounds = (0, *windows[:-1], 64)
    there = [lengths_N[(lengths_N > a) & (lengths_N <= b)].sum() for a, b in pairwise(bounds)]
    # flow of tokens from each natural window to each at most as large; the total is what linear programming finds
    cells = [(a, b) for a in range(len(windows)) for b in range(a + 1)]
    use = [[float(a == w) for a, _ in cells] + [0.0] for w in range(len(windows))]
    fill = [[float(b == w) for _, b in cells] + [-shares[windows[w]]] for w in range(len(windows))]
    most = -linprog([0.0] * len(cells) + [-1.0], use, there, fill, [0.0] * len(windows)).fun
    if most < 1e-6:
        with pytest.raises(ValueError, match="no sequence is longer than"):
            window_of_each(lengths_N, shares, np.random.default_rng(seed))
        return
    cut_N = window_of_each(lengths_N, shares, np.random.default_rng(seed))
    for number, window in enumerate(windows):
        tokens = lengths_N[cut_N == window].sum()
        assert abs(tokens - shares[window] * most) <= 64 * (len(windows) - number)
        smaller = [w for w in windows if w < window]
        assert not smaller or (lengths_N[cut_N == window] > smaller[-1]).all(), "only longer ones are of this window"
    assert set(cut_N.tolist()) <= {*windows, LEFT_OUT}
    assert (cut_N == window_of_each(lengths_N, shares, np.random.default_rng(seed))).all()


@settings(max_examples=40)
@given(st.integers(1, 200), st.integers(1, 70))
def test_pieces_cover_a_sequence_once(length: int, window: int) -> None:
    cut = pieces(length, window)
    assert [i for begin, end in cut for i in range(begin, end)] == list(range(length))
    assert max(end - begin for begin, end in cut) <= window
    assert pieces(length, LEFT_OUT) == []
