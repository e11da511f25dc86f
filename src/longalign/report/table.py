"""The default section of a task on the page: a table by group with intervals, from what every task's results hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from longalign.eval.results import mean_of_known
from longalign.report.collect import Findings
from longalign.report.judged import title_of
from longalign.report.stage import Stage
from longalign.report.words import MISSING, decimal, percent, percents, span

OWN_SECTION = ("needle", "synthetic", "short", "leaderboard")
Cell = tuple[str, str]


@dataclass(frozen=True)
class TableSection:
    """The values that the template shows: a row a model, with a cell (figure, text below) overall and by group."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def table_sections(findings: Findings) -> tuple[TableSection, ...]:
    """Every task that no other part of the page shows."""
    return tuple(
        _section(task, findings.evaluated(task))
        for task in findings.tasks()
        if task not in OWN_SECTION and not findings.is_judged(task)
    )


def _section(task: str, evaluated: dict[str, list[Stage]]) -> TableSection:
    results = {label: [s.results for s in stages if s.results] for label, stages in evaluated.items()}
    everything = [r for runs in results.values() for r in runs]
    groups = tuple(dict.fromkeys(name for r in everything for name in r.get("by_kind", {})))
    groups = groups if len(groups) > 1 else ()
    rows = (
        (
            label,
            (_cell([r.get("overall") for r in runs]), *(_cell([r["by_kind"].get(g) for r in runs]) for g in groups)),
        )
        for label, runs in results.items()
    )
    return TableSection(title_of(task, everything), ("all", *groups), tuple(rows))


def _cell(found: Sequence[dict[str, Any] | None]) -> Cell:
    """The mean over seeds; below it the interval of a single seed, or the range of several, and what failed."""
    rows = [row for row in found if row]
    if not rows:
        return MISSING, "not asked"
    share = "accuracy" in rows[0]
    values = [row["accuracy" if share else "mean"] for row in rows]
    known = [value for value in values if value is not None]
    figure: Callable[[float | None], str] = percent if share else decimal
    below = []
    if len(rows) > 1 and known:
        below.append(f"{len(rows)} seeds {span(known) if share else f'{decimal(min(known))} to {decimal(max(known))}'}")
    elif known:
        low, high = rows[0]["low"], rows[0]["high"]
        limits = percents(low, high) if share else f"{decimal(low)} to {decimal(high)}"
        below.append(f"{limits} of {rows[0]['scored']}")
    if failed := sum(row["failed"] for row in rows):
        below.append(f"{failed} failed")
    if wrong := sum(row.get("counted_wrong", 0) for row in rows):
        below.append(f"{wrong} failed, counted wrong")
    return figure(mean_of_known(values)), ", ".join(below)
