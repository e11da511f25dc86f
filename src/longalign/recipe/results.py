"""The results.json of a run: what was measured, by task, model and length, with means over seeds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import Any

from longalign.eval.results import headline

MEASURES = ("accuracy", "name_accuracy", "mean", "share")
COUNTS = ("questions", "failed", "unscored")


def over_seeds(listed: str | None, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, with each seed's value and the counts of what has no score.

    `runs`: seed -> results of one task; `listed`: the key of those that is listed row by row (None: overall alone).
    """
    if listed:
        rows = list(next(iter(runs.values()))[listed])
        return {row: _mean_rows([r[listed][row] for r in runs.values()], list(runs)) for row in rows}
    return _mean_rows([r["overall"] for r in runs.values()], list(runs))


def _mean_rows(rows: list[dict[str, Any]], seeds: list[str]) -> dict[str, Any]:
    measures = [key for key in MEASURES if key in rows[0]]
    out: dict[str, Any] = {}
    for key in measures:
        values = [row[key] for row in rows if row[key] is not None]
        out[key] = round(fmean(values), 4) if values else None
    first = measures[0] if measures else None
    if first and seeds != ["None"]:
        out["by_seed"] = {seed: row[first] for seed, row in zip(seeds, rows, strict=True)}
    for count in COUNTS:
        if count in rows[0]:
            out[count] = sum(row[count] for row in rows)
    return out


def results_table(results: dict[str, Any]) -> str:
    """Models by prompt lengths and tasks, as plain text. Tasks with rows of another kind are on the page only."""
    labels = list(dict.fromkeys(label for found in results.values() for label in found))
    columns: list[tuple[str, int, Callable[[str], float | None]]] = []
    for name, found in results.items():
        first: dict[str, Any] = next(iter(found.values()), {})
        if first and all(key.isdigit() for key in first):
            columns += [(length, 8, partial(_row_score, found, length)) for length in first]
        elif any(measure in first for measure in MEASURES):
            columns.append((name, max(8, len(name) + 1), partial(_row_score, found, None)))
    lines = [f"{'needle accuracy at':<18}" + "".join(f"{name:>{width}}" for name, width, _ in columns)]
    for label in labels:
        cells = [(value(label), width) for _, width, value in columns]
        lines.append(f"{label:<18}" + "".join(f"{'-' if v is None else f'{v:.2f}':>{width}}" for v, width in cells))
    return "\n".join(lines)


def _row_score(found: dict[str, Any], row: str | None, label: str) -> float | None:
    """The first measure of a model that has a value: where judges' scales are mixed that is the share of 100."""
    figures = found.get(label, {})
    figures = figures.get(row, {}) if row else figures
    return headline(figures)
