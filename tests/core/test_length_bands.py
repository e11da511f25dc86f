"""Bands of length: every length lies in the band that names it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longalign.core.length_bands import bands_of_window, bands_present, length_band

LENGTHS = st.lists(st.integers(1, 1 << 20), min_size=1, max_size=30)


@given(LENGTHS)
def test_a_length_lies_inside_its_band_and_bands_run_from_short_to_long(lengths: list[int]) -> None:
    band_N, names = bands_present(np.array(lengths))
    edges = [tuple(map(int, name.split("-"))) for name in names]
    for length, band in zip(lengths, band_N, strict=True):
        low, high = edges[band]
        assert low <= length <= high
        assert high == 2 * low - 1
        assert names[band] == length_band(length)
    assert edges == sorted(set(edges))
    assert set(band_N.tolist()) == set(range(len(names)))


@given(st.integers(2, 1 << 18), st.integers(1, 8), st.data())
def test_bands_of_a_window_halve_it_and_leave_no_length_out(window: int, bands: int, data: st.DataObject) -> None:
    lengths = np.array(data.draw(st.lists(st.integers(1, window), min_size=1, max_size=20)))
    band_N, names = bands_of_window(lengths, window, bands + 1)
    assert len(set(names)) == len(names) <= bands + 1
    for length, band in zip(lengths.tolist(), band_N.tolist(), strict=True):
        steps_below = sum(1 for k in {max(window >> k, 1) for k in range(1, bands + 1)} if length >= k)
        assert band == steps_below
