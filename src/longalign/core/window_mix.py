"""A mix of windows: what share of the tokens stands in sequences of which length.

`{4096: 0.4, 65536: 0.6}` asks for 40% of the tokens in sequences of at most 4,096 tokens, and for 60% in longer ones of
at most 65,536. A sequence belongs to the smallest window that holds it, or to the one it is cut at. Where the short
ones are too few, longer ones are cut; where they are too many, some are left out. As many tokens are kept as the shares
allow.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from longalign.core.order import IntArray

LEFT_OUT = 0


def window_of_each(lengths_N: IntArray, shares: Mapping[int, float], rng: np.random.Generator) -> IntArray:
    """The window that each sequence is cut at, `LEFT_OUT` for those left out; lengths are at most the largest window.

    `rng` decides which are cut and which are left out. Sequences are taken as a whole, so the tokens of a window may
    miss its share by one of them; those of the smallest window by one for each other window.
    Raises `ValueError` when no sequence is long enough for a window that has a share.
    """
    windows = sorted(shares)
    natural_N = np.searchsorted(windows, lengths_N)
    tokens_W = np.bincount(natural_N, lengths_N, minlength=len(windows))
    total = tokens_kept(tokens_W, [shares[window] for window in windows])
    if total == 0:
        short = next(w for w in range(len(windows)) if tokens_W[w:].sum() == 0)
        raise ValueError(f"no sequence is longer than {windows[short - 1]:,} tokens, so none has {windows[short]:,}")
    cut_N = np.full(len(lengths_N), LEFT_OUT, dtype=np.int64)
    longer = np.zeros(0, dtype=np.int64)
    for number in reversed(range(len(windows))):
        own = rng.permutation(np.flatnonzero(natural_N == number))
        ready = np.concatenate([own, longer])
        wanted = shares[windows[number]] * total
        everything = number == 0 and total >= tokens_W.sum()  # rounding leaves out nothing that the shares do not
        taken = len(ready) if everything else _as_many_as(lengths_N[ready], wanted)
        cut_N[ready[:taken]] = windows[number]
        longer = ready[taken:]
    return cut_N


def tokens_kept(tokens_W: np.ndarray, shares_W: list[float]) -> float:
    """The most tokens that these shares allow; `tokens_W`: what there is by window, ascending.

    A window takes from its own sequences and from longer ones, so from each window on there must be enough.
    """
    there, wanted = np.cumsum(tokens_W[::-1]), np.cumsum(np.array(shares_W)[::-1])
    return float(np.min(there / wanted))


def _as_many_as(lengths: IntArray, tokens: float) -> int:
    """How many of the first sequences come closest to that many tokens."""
    sums = np.concatenate(([0], np.cumsum(lengths)))
    return int(np.argmin(np.abs(sums - tokens)))


def pieces(length: int, window: int) -> list[tuple[int, int]]:
    """Begin and end of each piece of a sequence; none of a sequence that is left out."""
    return [(begin, min(begin + window, length)) for begin in range(0, length, window)] if window else []
