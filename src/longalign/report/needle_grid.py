"""Needle results of one model, its seeds pooled: cells and lengths with counts, intervals and the range of seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from longalign.core.stats import wilson_interval
from longalign.report.collect import Stage

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
    """A share of right answers: pooled over seeds, with Wilson limits; `seeds` holds each seed's own share."""

    right: int
    scored: int
    questions: int
    low: float | None
    high: float | None
    seeds: tuple[float, ...]

    @property
    def value(self) -> float | None:
        return self.right / self.scored if self.scored else None

    @property
    def failed(self) -> int:
        return self.questions - self.scored


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
    notes: tuple[str, ...]


def needle_grid(label: str, stages: Sequence[Stage]) -> NeedleGrid:
    """Pool the stages (seeds) of one model."""
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
        tuple(notes),
    )


def share(cells: Iterable[dict[str, Any]]) -> Share:
    """Counts of several seeds added up."""
    cells = list(cells)
    right = sum(cell.get("right", 0) for cell in cells)
    scored = sum(cell["scored"] for cell in cells)
    questions = sum(cell["questions"] for cell in cells)
    seeds = tuple(cell["accuracy"] for cell in cells if cell["accuracy"] is not None)
    if not scored:
        return Share(0, 0, questions, None, None, seeds)
    interval = wilson_interval(right, scored)
    return Share(right, scored, questions, interval.low, interval.high, seeds)


def _mean(rows: Sequence[dict[str, Any]], field: str) -> float | None:
    scored = [(row[field], row["scored"]) for row in rows if row.get(field) is not None and row["scored"]]
    total = sum(n for _, n in scored)
    return sum(value * n for value, n in scored) / total if total else None
