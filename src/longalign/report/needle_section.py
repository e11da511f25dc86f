"""The needle part of the page: heatmaps side by side, accuracy by length, name and value apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from longalign.report.collect import Stage
from longalign.report.heatmap import heatmap
from longalign.report.lines import Axis, Point, Series, legend, line_chart
from longalign.report.needle_grid import NeedleGrid, Share, needle_grid
from longalign.report.words import MISSING, percent, percents, several, span


@dataclass(frozen=True)
class NeedleSection:
    """What the template shows."""

    grids: tuple[NeedleGrid, ...]
    heatmaps: tuple[tuple[str, str, Markup], ...]
    chart: Markup
    legend: Markup
    lengths: tuple[int, ...]
    table: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    parts: tuple[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], ...]
    notes: tuple[str, ...]
    unit: str


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
        parts=tuple((grid.label, _parts(grid, lengths)) for grid in grids),
        notes=_notes(grids),
        unit=" / ".join(dict.fromkeys(grid.unit for grid in grids)),
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
                tip = f"{grid.label}, {length:,}: {value} ({share.right} of {share.scored}; {below})"
                points.append(Point(length, share.value, share.low, share.high, tip))
        series.append(Series(grid.label, points, colours[grid.label]))
    across = Axis(min(lengths), max(lengths), [(n, f"{n:,}") for n in lengths], "prompt length", log=True)
    up = Axis(0, 1, [(k / 4, f"{k * 25}%") for k in range(5)], "needles found")
    return line_chart(series, across, up, title="needle accuracy by prompt length, with 95% intervals", spread=4)


def _cell(share: Share | None) -> tuple[str, str]:
    """The share, and what stands below it: interval, range of seeds, failures."""
    if share is None:
        return MISSING, "not asked"
    if share.value is None:
        return MISSING, f"{share.failed} failed"
    below = [percents(share.low, share.high)]
    if len(share.seeds) > 1:
        below.append(f"seeds {span(share.seeds)}")
    if share.failed:
        below.append(f"{share.failed} failed")
    return percent(share.value), ", ".join(below)


def _parts(grid: NeedleGrid, lengths: Sequence[int]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Names and values apart: a row for each measure that was taken."""
    taken = {name: values for name, values in grid.parts.items() if any(v is not None for v in values.values())}
    return tuple((name, tuple(percent(values.get(length)) for length in lengths)) for name, values in taken.items())


def _notes(grids: Sequence[NeedleGrid]) -> tuple[str, ...]:
    """What limits the figures; a note that several models share is said once."""
    owners: dict[str, list[str]] = {}
    for grid in grids:
        for note in grid.notes:
            owners.setdefault(note, []).append(grid.label)
    return tuple(note if len(who) == len(grids) else f"{several(who)}: {note}" for note, who in owners.items())
