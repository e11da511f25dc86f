"""The synthetic suite on the page: scores by length, effective windows, and every kind of question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from longalign.eval.results import mean_of_known
from longalign.report.drawing import Point, Series, legend, shares_by_length
from longalign.report.isolate import inline
from longalign.report.stage import Stage
from longalign.report.words import MISSING, percent, percents, span

Results = Mapping[str, Any]


@dataclass(frozen=True)
class SyntheticSection:
    """The values that the template shows. `kinds`: for each model, a line a kind: name, cells by length, window."""

    chart: Markup
    legend: Markup
    lengths: tuple[int, ...]
    windows: tuple[tuple[str, str, str, str], ...]
    kinds: tuple[tuple[str, tuple[tuple[str, tuple[str, ...], str], ...]], ...]
    notes: tuple[str, ...]


def synthetic_section(evaluated: Mapping[str, Sequence[Stage]]) -> SyntheticSection | None:
    """None where no model has results of the suite."""
    models = {label: [stage.results for stage in stages if stage.results] for label, stages in evaluated.items()}
    if not models:
        return None
    lengths = tuple(sorted({int(length) for runs in models.values() for run in runs for length in run["by_length"]}))
    colours = {label: number for number, label in enumerate(models)}
    return SyntheticSection(
        chart=_chart(models, lengths, colours),
        legend=legend(list(colours.items())),
        lengths=lengths,
        windows=tuple(_windows(label, runs) for label, runs in models.items()),
        kinds=tuple((label, _kinds(runs, lengths)) for label, runs in models.items()),
        notes=tuple(dict.fromkeys(note for runs in models.values() for run in runs for note in run["notes"])),
    )


def _chart(models: Mapping[str, Sequence[Results]], lengths: Sequence[int], colours: Mapping[str, int]) -> Markup:
    series = []
    for label, runs in models.items():
        points = []
        for length in lengths:
            rows = [run["by_length"][str(length)] for run in runs if str(length) in run["by_length"]]
            value = mean_of_known(row["mean"] for row in rows)
            if value is not None:
                low, high = (rows[0]["low"], rows[0]["high"]) if len(rows) == 1 else (None, None)
                asked = sum(row["scored"] for row in rows)
                points.append(
                    Point(length, value, low, high, f"{inline(label)}, {length:,}: {percent(value)} of {asked}")
                )
        series.append(Series(label, points, colours[label]))
    return shares_by_length(series, lengths, "right values", title="scores of the synthetic suite by prompt length")


def _windows(label: str, runs: Sequence[Results]) -> tuple[str, str, str, str]:
    """Label, effective window, its interval (or the range of seeds), and the window by the model's own short score."""
    found = [run["effective_window"] for run in runs if run["effective_window"]]
    if not found:
        return label, MISSING, "", MISSING
    if len(found) == 1:
        limits = f"{_tokens(found[0]['low'])} to {_tokens(found[0]['high'])}"
    else:
        limits = f"{len(found)} seeds"
    return label, _several([f["tokens"] for f in found]), limits, _several([f["of_own"] for f in found])


def _kinds(runs: Sequence[Results], lengths: Sequence[int]) -> tuple[tuple[str, tuple[str, ...], str], ...]:
    names = dict.fromkeys(name for run in runs for name in run["cells"])
    lines = []
    for name in names:
        cells = tuple(_cell([run["cells"].get(name, {}).get(str(n)) for run in runs]) for n in lengths)
        windows = [run["effective_window_by_kind"].get(name) for run in runs]
        lines.append((name, cells, _several([window["tokens"] for window in windows if window])))
    return tuple(lines)


def _cell(found: Sequence[Results | None]) -> str:
    rows = [row for row in found if row and row["mean"] is not None]
    if not rows:
        return MISSING
    if len(rows) > 1:
        return span([row["mean"] for row in rows])
    row = rows[0]
    limits = f" ({percents(row['low'], row['high'])})" if row["low"] is not None else ""
    return f"{percent(row['mean'])}{limits}"


def _several(values: Sequence[int | None]) -> str:
    """One window, or those of all seeds."""
    return ", ".join(dict.fromkeys(_tokens(value) for value in values)) or MISSING


def _tokens(value: int | None) -> str:
    return "none" if value is None else f"{value:,}"
