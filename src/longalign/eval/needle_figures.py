"""Needle results: shares by prompt length and depth, with what failed questions could change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from longalign.eval.results import Row, Tally, mean_of, mean_of_known, rounded, tally

LEFT_OUT = "are left out of the shares"


@dataclass(frozen=True, kw_only=True)
class NeedleCell(Tally):
    """Shares of a group of questions. Failed ones are left out of them; `worst` and `best` say what they could change.

    `name_`, `value_`, `exact_accuracy` are shares of answers, `name_words` and `value_words` mean shares of words, and
    `forced_` mean shares of tokens with the right answer fed in (None where they were not read). Names and words are
    measured of form `register` only.
    """

    worst: float
    best: float
    name_accuracy: float | None
    value_accuracy: float | None
    exact_accuracy: float | None
    name_words: float | None
    value_words: float | None
    forced_name: float | None
    forced_value: float | None


@dataclass(frozen=True)
class Spread:
    """Least, mean and most tokens of some prompts."""

    min: float
    mean: float
    max: float


@dataclass(frozen=True, kw_only=True)
class NeedleLength(NeedleCell):
    """All questions of one prompt length; the tokens that prompts have, and what an endpoint has counted."""

    realised_tokens: Spread | None
    reported_tokens: Spread | None
    beyond_window: bool | None


@dataclass(frozen=True, kw_only=True)
class NeedleFigures:
    """Cells by length and depth (as text), totals by length, and notes on what limits them."""

    cells: dict[str, dict[str, NeedleCell]]
    by_length: dict[str, NeedleLength]
    overall: NeedleCell
    notes: list[str]


def summarize(scores: Sequence[Row], window: int | None) -> NeedleFigures:
    """Cells {length: {depth: ...}}, totals by length, and notes on what limits them."""
    lengths = sorted({row["length"] for row in scores})
    depths = sorted({row["depth"] for row in scores})
    cells = {
        str(length): {
            f"{depth:g}": cell(r for r in scores if (r["length"], r["depth"]) == (length, depth)) for depth in depths
        }
        for length in lengths
    }
    by_length = {}
    for length in lengths:
        rows = [row for row in scores if row["length"] == length]
        by_length[str(length)] = NeedleLength(
            **vars(cell(rows)),
            realised_tokens=_spread(rows, "prompt_tokens"),
            reported_tokens=_spread(rows, "reported_prompt_tokens"),
            beyond_window=None if window is None else length > window,
        )
    notes = _notes(scores, by_length, window)
    return NeedleFigures(cells=cells, by_length=by_length, overall=cell(scores), notes=notes)


def cell(rows: Iterable[Row]) -> NeedleCell:
    """Counts and shares of a group of questions."""
    rows = list(rows)
    scored = [row["score"] for row in rows if row["score"] is not None]
    forced = [row["forced"] for row in rows if row.get("forced")]
    counts = tally([score["value"] for score in scored], len(rows))
    worst, best = (round((counts.right + n) / len(rows), 6) for n in (0, counts.failed))
    return NeedleCell(
        **vars(counts),
        worst=worst,
        best=best,
        name_accuracy=_mean_of_known(scored, "name"),
        value_accuracy=mean_of(scored, "value"),
        exact_accuracy=mean_of(scored, "exact"),
        name_words=_mean_of_known(scored, "name_words"),
        value_words=_mean_of_known(scored, "value_words"),
        forced_name=mean_of(forced, "name"),
        forced_value=mean_of(forced, "value"),
    )


def _mean_of_known(scored: Sequence[Row], name: str) -> float | None:
    """None for forms of needles that do not have it."""
    return rounded(mean_of_known(score.get(name) for score in scored))


def _spread(rows: Sequence[Row], field: str) -> Spread | None:
    values = [row[field] for row in rows if row[field] is not None]
    return Spread(min(values), round(sum(values) / len(values), 1), max(values)) if values else None


def _notes(scores: Sequence[Row], by_length: Mapping[str, NeedleLength], window: int | None) -> list[str]:
    notes = []
    if beyond := [length for length, row in by_length.items() if row.beyond_window]:
        notes.append(f"lengths {', '.join(beyond)} exceed the model's window of {window} tokens; asked anyway")
    if failed := sum(row["score"] is None for row in scores):
        notes.append(f"{failed} of {len(scores)} questions have no answer and {LEFT_OUT}")
    if any(row["repeats_text"] for row in scores):
        notes.append("the haystack is shorter than some prompts, so text repeats in them")
    return notes
