"""Drawings are well-formed, escaped, and place what they show where it belongs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.report.drawing import (
    MOST_POINTS,
    Axis,
    Point,
    Series,
    bar_chart,
    length_histogram,
    line_chart,
    round_ticks,
    smooth,
    tag,
    text,
    thin,
)
from longalign.report.needle import NeedleGrid, Share, heatmap, share
from longalign.report.words import duration, percent, several


@given(st.text(max_size=60))
def test_any_text_stays_text(words: str) -> None:
    if any(ord(c) < 32 or 0xD7FF < ord(c) < 0xE000 or ord(c) > 0xFFFD for c in words):
        return  # not XML characters at all
    element = ET.fromstring(str(tag("g", text(1, 2, words), data_tip=words)))
    assert element.get("data-tip") == words.replace("\t", " ").replace("\n", " ")
    assert (element[0].text or "") == words


def grid(values: dict[tuple[int, float], int | None], questions: int = 8) -> NeedleGrid:
    cells = {
        place: Share(0, 0, questions, questions, None, None, ())
        if right is None
        else share([{"right": right, "scored": questions, "questions": questions, "accuracy": right / questions}])
        for place, right in values.items()
    }
    lengths, depths = sorted({n for n, _ in values}), sorted({d for _, d in values})
    whole = share([{"right": 1, "scored": 2, "questions": 2, "accuracy": 0.5}])
    return NeedleGrid("m", tuple(lengths), tuple(depths), cells, {}, {}, whole, 1, "tokens", None, "register", ())


def test_a_heatmap_has_a_cell_for_each_place_and_darkness_is_accuracy() -> None:
    drawn = heatmap(grid({(512, 0.0): 0, (512, 1.0): 4, (1024, 0.0): 8, (1024, 1.0): None}))
    cells = ET.fromstring(str(drawn)).findall("g[@class='cell']")
    assert len(cells) == 4
    opacity = [float(heat.get("fill-opacity", "nan")) for cell in cells for heat in cell.findall("rect[@class='heat']")]
    assert opacity == pytest.approx([0.03, 1.0, 0.515], abs=0.006)
    tips = [cell.get("data-tip") or "" for cell in cells]
    assert tips[0] == "512 long, depth 0%: 0 of 8 right, 95% interval 0% to 32%"
    assert any("no answer to any of 8 questions" in tip for tip in tips)
    at = {tip.split(":")[0]: cell.find("rect") for tip, cell in zip(tips, cells, strict=True)}
    x = {where: float(box.get("x", "nan")) for where, box in at.items() if box is not None}
    y = {where: float(box.get("y", "nan")) for where, box in at.items() if box is not None}
    assert x["512 long, depth 0%"] < x["1,024 long, depth 0%"]
    assert y["512 long, depth 0%"] < y["512 long, depth 100%"]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 9))
def test_ticks_are_round_inside_and_few(low: float, span: float, count: int) -> None:
    ticks = round_ticks(low, low + span, count)
    assert len(ticks) <= count + 1
    assert all(low - 1e-6 * span <= value <= low + span * (1 + 1e-6) for value, _ in ticks)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=700))
def test_thinning_keeps_the_ends_and_smoothing_keeps_the_range(values: list[float]) -> None:
    points = [Point(i, y) for i, y in enumerate(values)]
    thinned = thin(points)
    assert len(thinned) <= MOST_POINTS
    assert (thinned[0], thinned[-1]) == (points[0], points[-1])
    smoothed = smooth(points)
    assert [p.x for p in smoothed] == [p.x for p in points]
    assert min(values) - 1e-6 <= min(p.y for p in smoothed)
    assert max(p.y for p in smoothed) <= max(values) + 1e-6
    assert (smoothed[0].y, smoothed[-1].y) == pytest.approx((values[0], values[-1]))


def test_higher_values_are_drawn_higher() -> None:
    series = [Series("s", [Point(1, 0.0), Point(2, 1.0), Point(4, 0.5, 0.4, 0.6)], 0)]
    drawn = line_chart(series, Axis(1, 4, [], "x", log=True), Axis(0, 1, [], "y"), title="t")
    circles = ET.fromstring(str(drawn)).findall("circle")
    low, high, middle = (float(c.get("cy", "nan")) for c in circles)
    assert high < middle < low
    across = [float(c.get("cx", "nan")) for c in circles]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.02)  # a log scale


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=200))
def test_a_histogram_counts_every_sequence_once(lengths: list[int]) -> None:
    drawn = length_histogram(np.array(lengths), (min(lengths), max(lengths)), title="t")
    tips = re.findall(r": ([\d,]+) sequences", str(drawn))
    assert sum(int(tip.replace(",", "")) for tip in tips) == len(lengths)
    shares = [float(s) for s in re.findall(r"([\d.]+)% of all tokens", str(drawn))]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))


def test_bars_are_in_proportion() -> None:
    drawn = ET.fromstring(str(bar_chart([("a", 50.0, "50"), ("b", 100.0, "100")], title="t")))
    small, large = (float(bar.get("width", "nan")) for bar in drawn.findall("rect"))
    assert large == pytest.approx(2 * small, abs=0.02)


def test_words() -> None:
    assert (percent(None), percent(0.0), percent(0.934)) == ("–", "0%", "93%")
    assert [duration(s) for s in (None, 3.21, 75, 3700)] == ["–", "3.2 s", "1 min 15 s", "1:01:40"]
    assert [several(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
