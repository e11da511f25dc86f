"""Charts as inline SVG: line charts of named series, horizontal bars, and histograms of lengths.

Everything is built from small pure functions. `tag` escapes every text and attribute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 74, 14, 14, 48
INSET = 12  # between the frame and the first and last point
COLOURS = 8
MOST_POINTS = 240


@dataclass(frozen=True)
class Point:
    """A place on a line, its limits, and what hovering says."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    tip: str = ""


@dataclass(frozen=True)
class Series:
    """A named line; `faint` lines are drawn behind the others and are not in the legend."""

    name: str
    points: Sequence[Point]
    colour: int
    faint: bool = False
    marks: bool = True


@dataclass(frozen=True)
class Axis:
    """A scale with its labelled ticks."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str
    log: bool = field(default=False)

    def place(self, value: float) -> float:
        """0 to 1 along the axis."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return (value - low) / (high - low) if high > low else 0.5


def shares_by_length(series: Sequence[Series], lengths: Sequence[int], what: str, *, title: str) -> Markup:
    """Shares (0-1) over prompt lengths; `what` names the share."""
    across = Axis(min(lengths), max(lengths), [(n, f"{n:,}") for n in lengths], "prompt length", log=True)
    up = Axis(0, 1, [(k / 4, f"{k * 25}%") for k in range(5)], what)
    return line_chart(series, across, up, title=title, spread=4)


def line_chart(series: Sequence[Series], x: Axis, y: Axis, *, title: str, spread: float = 0) -> Markup:
    """The drawing, without its legend (see `legend`). `spread` sets series aside so that limits do not overlap."""

    def at(point_x: float, point_y: float) -> tuple[float, float]:
        across = _across(x, point_x)
        return across, HEIGHT - BOTTOM - y.place(point_y) * (HEIGHT - TOP - BOTTOM)

    parts = [*_frame(x, y)]
    for line in sorted(series, key=lambda s: not s.faint):
        aside = spread * (line.colour % COLOURS - (len(series) - 1) / 2)
        spots = [(a + aside, b) for a, b in (at(p.x, p.y) for p in line.points)]
        path = "".join(f"{'L' if i else 'M'}{a:.1f} {b:.1f}" for i, (a, b) in enumerate(spots))
        faint = " faint" if line.faint else ""
        parts.append(tag("path", d=path, class_=f"line c{line.colour % COLOURS}{faint}"))
        for p, (a, b) in zip(line.points, spots, strict=True):
            if p.low is not None and p.high is not None:
                top, bottom = at(p.x, p.high)[1], at(p.x, p.low)[1]
                parts.append(
                    tag("path", d=f"M{a:.1f} {top:.1f}V{bottom:.1f}", class_=f"whisker c{line.colour % COLOURS}")
                )
            if line.marks:
                parts.append(
                    tag("circle", cx=a, cy=b, r=4, class_=f"mark c{line.colour % COLOURS}", data_tip=p.tip or None)
                )
    return picture(WIDTH, HEIGHT, parts, title=title, class_="lines")


def legend(names: Sequence[tuple[str, int]]) -> Markup:
    """Names beside their colours, as HTML."""
    chips = [tag("span", tag("i", class_=f"chip b{colour % COLOURS}"), name, class_="key") for name, colour in names]
    return tag("p", *chips, class_="legend")


def thin(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS` points, ends kept, so that a page of long runs stays small."""
    if len(points) <= MOST_POINTS:
        return list(points)
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(i * step)] for i in range(MOST_POINTS)]


def smooth(points: Sequence[Point]) -> list[Point]:
    """Means of neighbouring points, a thirtieth of the line to each side; fewer near its ends."""
    reach = len(points) // 30
    totals = [0.0]
    for point in points:
        totals.append(totals[-1] + point.y)
    out = []
    for i, point in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)
        out.append(Point(point.x, (totals[i + near + 1] - totals[i - near]) / (2 * near + 1)))
    return out


def round_ticks(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """Ticks at round numbers within [low, high]."""
    span = high - low
    if span <= 0:
        return [(low, f"{low:g}")]
    unit = 10 ** math.floor(math.log10(span / count))
    step = next(unit * f for f in (1, 2, 5, 10) if span / (unit * f) <= count)
    first = math.ceil(low / step - 1e-9)
    return [(i * step, f"{i * step:,.10g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _across(x: Axis, value: float) -> float:
    return LEFT + INSET + x.place(value) * (WIDTH - LEFT - RIGHT - 2 * INSET)


def _frame(x: Axis, y: Axis) -> list[Markup]:
    parts = []
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value, name in y.ticks:
        here = bottom - y.place(value) * (HEIGHT - TOP - BOTTOM)
        parts.append(tag("path", d=f"M{LEFT} {here:.1f}H{right}", class_="grid"))
        parts.append(text(LEFT - 7, here + 4, name, anchor="end", class_="tick"))
    for value, name in x.ticks:
        here = _across(x, value)
        parts.append(text(here, bottom + 17, name, anchor="middle", class_="tick"))
    parts.append(text((LEFT + right) / 2, HEIGHT - 6, x.title, anchor="middle", class_="axis"))
    up: dict[str, Attribute] = {"transform": f"translate(14 {(TOP + bottom) / 2:.0f}) rotate(-90)"}
    parts.append(group([text(0, 0, y.title, anchor="middle", class_="axis")], **up))
    return parts


BAR_WIDTH = 560


def bar_chart(rows: Sequence[tuple[str, float, str]], *, title: str, colour: int = 0) -> Markup:
    """One bar for each (name, amount, what stands at its end)."""
    left, row_height, room = 96, 34, 150
    widest = max((amount for _, amount, _ in rows), default=0) or 1
    parts = []
    for i, (name, amount, label) in enumerate(rows):
        y = i * row_height
        length = amount / widest * (BAR_WIDTH - left - room)
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
    return picture(BAR_WIDTH, max(1, len(rows)) * row_height, parts, title=title, class_="bars")


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
    step = (BAR_WIDTH - 2 * left) / len(counts)
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
    parts.append(text(BAR_WIDTH / 2, height - 5, "tokens in a sequence", anchor="middle", class_="axis"))
    return picture(BAR_WIDTH, height, parts, title=title, class_="bars")


Attribute = str | float | int | None


def tag(name: str, *children: str, **attributes: Attribute) -> Markup:
    """An element. Text children are escaped, elements kept; `_` in names becomes `-`, a trailing one goes.

    None leaves an attribute out; numbers are written short.
    """
    parts = [
        f'{key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    head = " ".join([name, *parts])
    inside = "".join(str(escape(child)) for child in children)
    return Markup(f"<{head}>{inside}</{name}>")


def group(children: Iterable[Markup], **attributes: Attribute) -> Markup:
    """A `<g>` of elements."""
    return tag("g", *children, **attributes)


def picture(width: float, height: float, children: Iterable[Markup], *, title: str, class_: str = "") -> Markup:
    """A whole drawing that scales with its column and says to screen readers what it shows."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
        role="img",
        aria_label=title,
        class_=f"figure {class_}".strip(),
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", class_: str = "") -> Markup:
    """A line of text."""
    return tag("text", words, x=x, y=y, text_anchor=anchor, class_=class_ or None)


def _short(value: Attribute) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
