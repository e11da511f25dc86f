"""Bands of sequence length: every band is twice as long as the one before it."""

from __future__ import annotations

import numpy as np

from longalign.core.order import IntArray, RowArray


def length_band(length_tokens: int) -> str:
    """The power-of-two band of one length: `256-511` for 300 tokens. The name that metrics files use."""
    low = 1 << (max(int(length_tokens), 1).bit_length() - 1)
    return f"{low}-{2 * low - 1}"


def bands_present(lengths: RowArray) -> tuple[IntArray, list[str]]:
    """Band of each length among the power-of-two bands that occur, and their names from short to long."""
    _, exponent_N = np.frexp(np.maximum(lengths, 1))  # 2^(exponent - 1) <= length < 2^exponent
    exponents = np.flatnonzero(np.bincount(exponent_N))
    names = [length_band(1 << (int(exponent) - 1)) for exponent in exponents]
    return np.searchsorted(exponents, exponent_N).astype(np.int64), names


def bands_of_window(lengths: RowArray, window: int, bands: int = 8) -> tuple[IntArray, list[str]]:
    """Band of each length and the bands' names: halves of the window, down to a last band of all that is shorter."""
    edges = [max(window >> k, 1) for k in range(bands - 1, 0, -1)]
    edges = sorted(set(edges))
    names = [f"< {_short(edges[0])}"]
    names += [f"{_short(low)}-{_short(high)}" for low, high in zip(edges, [*edges[1:], window], strict=True)]
    return np.searchsorted(np.array(edges), lengths, side="right").astype(np.int64), names


def _short(tokens: int) -> str:
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)
