"""Needle results on the page: heatmaps side by side, accuracy by length, name and value apart.

`needle_grid` averages the seeds of a model: shares, intervals and the range of seeds by cell and by length. `heatmap`
draws them: lengths from left to right, depths from top to bottom, darker for more right answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from longalign.core.stats import wilson_interval
from longalign.report.drawing import Point, Series, group, legend, picture, shares_by_length, tag, text
from longalign.report.stage import Stage
from longalign.report.words import MISSING, percent, percents, several, span


@dataclass(frozen=True)
class NeedleSection:
    """The values that the template shows."""

    grids: tuple[NeedleGrid, ...]
    heatmaps: tuple[tuple[str, str, Markup], ...]
    chart: Markup
    legend: Markup
    lengths: tuple[int, ...]
    table: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    parts: tuple[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ...]
    notes: tuple[str, ...]
    unit: str
    forms: str


def needle_section(evaluated: dict[str, list[Stage]]) -> NeedleSection | None:
    """None where no model has needle results."""
    if not evaluated:
        return None
    grids = tuple(needle_grid(label, stages) for label, stages in evaluated.items())
    lengths = tuple(sorted({length for grid in grids for length in grid.lengths}))
    colours = {grid.label: number for number, grid in enumerate(grids)}
    return NeedleSection(
        grids=grids,
        heatmaps=tuple((grid.label, _subtitle(grid), heatmap(grid)) for grid in grids),
        chart=_chart(grids, lengths, colours),
        legend=legend(list(colours.items())),
        lengths=lengths,
        table=tuple((grid.label, tuple(_cell(grid.by_length.get(n)) for n in lengths)) for grid in grids),
        parts=tuple((grid.label, found) for grid in grids if (found := _parts(grid, lengths))),
        notes=_notes(grids),
        unit=" / ".join(dict.fromkeys(grid.unit for grid in grids)),
        forms=several(list(dict.fromkeys(f"form {grid.form}" for grid in grids))),
    )


def _subtitle(grid: NeedleGrid) -> str:
    overall = f"{percent(grid.overall.value)} over all" if grid.overall.scored else "no answers"
    seeds = f", {grid.seeds} seeds" if grid.seeds > 1 else ""
    window = f", window {grid.window:,}" if grid.window else ""
    return f"{overall}{seeds}{window}"


def _chart(grids: Sequence[NeedleGrid], lengths: Sequence[int], colours: dict[str, int]) -> Markup:
    series = []
    for grid in grids:
        points = []
        for length, share in grid.by_length.items():
            if share.value is not None:
                value, below = _cell(share)
                tip = f"{grid.label}, {length:,}: {value} ({share.right:.4g} of {share.scored}; {below})"
                points.append(Point(length, share.value, share.low, share.high, tip))
        series.append(Series(grid.label, points, colours[grid.label]))
    return shares_by_length(
        series, lengths, "needles found", title="needle accuracy by prompt length, with 95% intervals"
    )


def _cell(share: Share | None) -> tuple[str, str]:
    """The share, and what stands below it: interval, range of seeds, failures."""
    return (MISSING, "not asked") if share is None else share_text(share, percents(share.low, share.high))


def share_text(share: Share, limits: str) -> tuple[str, str]:
    """The share, and what stands below it: `limits`, range of seeds, failures."""
    if share.value is None:
        return MISSING, f"{share.failed} failed"
    below = [limits]
    if len(share.seeds) > 1:
        below.append(f"seeds {span(share.seeds)}")
    if share.failed:
        below.append(f"{share.failed} failed")
    if share.counted_wrong:
        below.append(f"{share.counted_wrong} failed, counted wrong")
    return percent(share.value), ", ".join(below)


def _parts(grid: NeedleGrid, lengths: Sequence[int]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Names and values apart: a row for each measure that was taken; none where names were not scored."""
    if not any(value is not None for value in grid.parts["name restated"].values()):
        return ()
    taken = {name: values for name, values in grid.parts.items() if any(v is not None for v in values.values())}
    return tuple((name, tuple(percent(values.get(length)) for length in lengths)) for name, values in taken.items())


def _notes(grids: Sequence[NeedleGrid]) -> tuple[str, ...]:
    """Limitations of the figures; a note that several models share appears once."""
    owners: dict[str, list[str]] = {}
    for grid in grids:
        for note in grid.notes:
            owners.setdefault(note, []).append(grid.label)
    return tuple(note if len(who) == len(grids) else f"{several(who)}: {note}" for note, who in owners.items())


PARTS = {
    "name restated": "name_accuracy",
    "name, by word": "name_words",
    "value right": "value_accuracy",
    "value, by word": "value_words",
    "name tokens, right answer fed in": "forced_name",
    "value tokens, right answer fed in": "forced_value",
}


@dataclass(frozen=True)
class Share:
    """A share of right answers, the mean over seeds. The same questions asked of several seeds are no more questions:
    `right`, `scored`, `questions` and the Wilson limits are as of one seed; `failed` counts all missing answers, and
    `seeds` holds each seed's own share.
    """

    right: float
    scored: int
    questions: int
    failed: int
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    counted_wrong: int = 0

    @property
    def value(self) -> float | None:
        return self.right / self.scored if self.scored else None


@dataclass(frozen=True)
class NeedleGrid:
    """All of one model's cells."""

    label: str
    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    cells: dict[tuple[int, float], Share]
    by_length: dict[int, Share]
    parts: dict[str, dict[int, float | None]]
    overall: Share
    seeds: int
    unit: str
    window: int | None
    form: str
    notes: tuple[str, ...]


def needle_grid(label: str, stages: Sequence[Stage]) -> NeedleGrid:
    """The stages (seeds) of one model as one grid."""
    results = [stage.results for stage in stages if stage.results]
    lengths = sorted({int(length) for r in results for length in r["by_length"]})
    depths = sorted({float(depth) for r in results for row in r["cells"].values() for depth in row})
    named = [{(int(n), float(d)): cell for n, row in r["cells"].items() for d, cell in row.items()} for r in results]
    places = [(length, depth) for length in lengths for depth in depths]
    notes = dict.fromkeys(note for r in results for note in r.get("notes", []))

    def rows(length: int) -> list[dict[str, Any]]:
        return [r["by_length"][str(length)] for r in results if str(length) in r["by_length"]]

    return NeedleGrid(
        label,
        tuple(lengths),
        tuple(depths),
        {place: share(cells[place] for cells in named if place in cells) for place in places},
        {length: share(rows(length)) for length in lengths},
        {name: {length: _mean(rows(length), field) for length in lengths} for name, field in PARTS.items()},
        share(r["overall"] for r in results),
        len(results),
        str(results[0].get("length_unit") or "tokens"),
        results[0].get("model_window_tokens"),
        results[0].get("form", "register"),
        tuple(notes),
    )


def share(cells: Iterable[dict[str, Any]]) -> Share:
    """The cells of several seeds as one."""
    cells = list(cells)
    questions = max((cell["questions"] for cell in cells), default=0)
    wrong = sum(cell.get("counted_wrong", 0) for cell in cells)
    failed = sum(cell["questions"] - cell["scored"] for cell in cells)
    answered = [cell for cell in cells if cell["scored"]]
    if not answered:
        return Share(0, 0, questions, failed, None, None, (), wrong)
    seeds = tuple(cell["right"] / cell["scored"] for cell in answered)
    scored = max(cell["scored"] for cell in answered)
    right = scored * sum(seeds) / len(seeds)
    interval = wilson_interval(right, scored)
    return Share(right, scored, questions, failed, interval.low, interval.high, seeds, wrong)


def _mean(rows: Sequence[dict[str, Any]], field: str) -> float | None:
    scored = [(row[field], row["scored"]) for row in rows if row.get(field) is not None and row["scored"]]
    total = sum(n for _, n in scored)
    return sum(value * n for value, n in scored) / total if total else None


LEFT, TOP, BOTTOM = 38, 4, 38
CELL_HEIGHT = 38
NARROWEST, ROOMY = 40, 46  # cell widths: the least, and from which on the interval is written too
WIDTH = 300
STRONG = 0.55  # cells above this share are dark enough for light figures


def heatmap(grid: NeedleGrid) -> Markup:
    """The drawing; each cell shows its share in percent and, where there is room, the interval."""
    columns, rows = len(grid.lengths), len(grid.depths)
    whole = max(WIDTH, LEFT + NARROWEST * columns)
    width = (whole - LEFT) / columns
    height = TOP + rows * CELL_HEIGHT + BOTTOM
    parts = []
    for i, depth in enumerate(grid.depths):
        y = TOP + i * CELL_HEIGHT
        parts.append(text(LEFT - 8, y + CELL_HEIGHT / 2 + 4, f"{depth:.0%}", anchor="end", class_="tick"))
        for j, length in enumerate(grid.lengths):
            parts.append(_heatmap_cell(grid.cells[length, depth], length, depth, LEFT + j * width, y, width))
    for j, length in enumerate(grid.lengths):
        parts.append(
            text(LEFT + (j + 0.5) * width, height - BOTTOM + 17, f"{length:,}", anchor="middle", class_="tick")
        )
    parts.append(text((LEFT + whole) / 2, height - 5, "prompt length", anchor="middle", class_="axis"))
    title = f"needle accuracy of {grid.label} by prompt length and depth"
    return picture(whole, height, parts, title=title, class_="heatmap")


def _heatmap_cell(share: Share, length: int, depth: float, x: float, y: float, width: float) -> Markup:
    value = share.value
    box = {"x": x + 1, "y": y + 1, "width": width - 2, "height": CELL_HEIGHT - 2, "rx": 3}
    where = f"{length:,} long, depth {depth:.0%}"
    if value is None:
        tip = f"{where}: no answer to any of {share.questions} questions"
        return group(
            [tag("rect", class_="hole", **box), text(x + width / 2, y + CELL_HEIGHT / 2 + 4, "–", anchor="middle")],
            class_="cell",
            data_tip=tip,
        )
    tip = f"{where}: {share.right:.4g} of {share.scored} right, 95% interval {share.low:.0%} to {share.high:.0%}"
    if share.failed:
        tip += f"; {share.failed} without an answer"
    if share.counted_wrong:
        tip += f"; {share.counted_wrong} without an answer, counted as wrong"
    if len(share.seeds) > 1:
        tip += f"; {len(share.seeds)} seeds from {min(share.seeds):.0%} to {max(share.seeds):.0%}"
    strong = " strong" if value > STRONG else ""
    parts = [
        tag("rect", class_="ground", **box),
        tag("rect", class_="heat", fill_opacity=0.03 + 0.97 * value, **box),
        text(
            x + width / 2,
            y + CELL_HEIGHT / 2 - (2 if width > ROOMY else -4),
            f"{100 * value:.0f}",
            anchor="middle",
            class_=f"number{strong}",
        ),
    ]
    if width > ROOMY:
        limits = f"{100 * (share.low or 0):.0f}–{100 * (share.high or 0):.0f}"
        parts.append(text(x + width / 2, y + CELL_HEIGHT / 2 + 11, limits, anchor="middle", class_=f"limits{strong}"))
    return group(parts, class_="cell", data_tip=tip)
