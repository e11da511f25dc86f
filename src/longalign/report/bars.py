"""Bars: horizontal ones to compare a few named amounts, upright ones for a histogram of lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from longalign.report.svg import picture, tag, text

WIDTH = 560


def bar_chart(rows: Sequence[tuple[str, float, str]], *, title: str, colour: int = 0) -> Markup:
    """One bar for each (name, amount, what stands at its end)."""
    left, row_height, room = 96, 34, 150
    widest = max((amount for _, amount, _ in rows), default=0) or 1
    parts = []
    for i, (name, amount, label) in enumerate(rows):
        y = i * row_height
        length = amount / widest * (WIDTH - left - room)
        parts.append(text(left - 10, y + 21, name, anchor="end", class_="name"))
        parts.append(
            tag(
                "rect",
                x=left,
                y=y + 5,
                width=length,
                height=row_height - 12,
                rx=3,
                class_=f"bar f{colour}",
                data_tip=f"{name}: {label}",
            )
        )
        parts.append(text(left + length + 8, y + 21, label, class_="tick"))
    return picture(WIDTH, max(1, len(rows)) * row_height, parts, title=title, class_="bars")


def length_histogram(lengths: NDArray[np.int64], reach: tuple[int, int], *, title: str, colour: int = 0) -> Markup:
    """Sequences by length in halves of powers of two, and the share of all tokens that each bin holds.

    `reach`: shortest and longest length of the axis, so that several histograms can be held against each other.
    """
    height, bottom, top, left = 220, 40, 22, 16
    low = int(np.floor(2 * np.log2(max(1, reach[0]))))
    high = int(np.ceil(2 * np.log2(reach[1] + 1)))
    edges = 2.0 ** (np.arange(low, max(high, low + 1) + 1) / 2)
    bins = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    tokens = np.bincount(bins, weights=lengths, minlength=len(edges) - 1) / lengths.sum()
    step = (WIDTH - 2 * left) / len(counts)
    parts = []
    for i in map(int, np.flatnonzero(counts)):
        count = int(counts[i])
        size = count / counts.max() * (height - bottom - top)
        x, y = left + i * step, height - bottom - size
        tip = f"{edges[i]:,.0f} to {edges[i + 1]:,.0f} tokens: {count:,} sequences, {tokens[i]:.1%} of all tokens"
        parts.append(
            tag("rect", x=x + 1, y=y, width=step - 2, height=max(size, 1), rx=2, class_=f"bar f{colour}", data_tip=tip)
        )
        parts.append(text(x + step / 2, y - 5, f"{count:,}", anchor="middle", class_="tick"))
    every = max(1, round(len(edges) / 9))
    for i in range(0, len(edges), every):
        parts.append(text(left + i * step, height - bottom + 17, f"{edges[i]:,.0f}", anchor="middle", class_="tick"))
    parts.append(text(WIDTH / 2, height - 5, "tokens in a sequence", anchor="middle", class_="axis"))
    return picture(WIDTH, height, parts, title=title, class_="bars")
