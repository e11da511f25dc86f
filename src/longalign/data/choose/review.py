"""`data review export`: borderline rows as a sheet that a person fills in.

A line of the sheet names its data row by id and content, so a decision can never land on another row or on one that
changed meanwhile (review_apply.py reads it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from longalign.data.choose.facts import RowFacts, facts_of
from longalign.data.choose.given import Given, answers_of, content_key, questions_of, read_given
from longalign.data.choose.review_sheet import DECISIONS, Line, check_form, write_sheet
from longalign.data.choose.row_out import check_free
from longalign.errors import DataError

EXCERPT_CHARS = 600


Reason = Callable[[Given, RowFacts], tuple[float, str] | None]


def export_review(name: str, out: Path, *, n: int = 50, threshold: float = 0.3) -> dict[str, Any]:
    """Write the `n` rows that are nearest to being wrong, taken in turn by each reason there is a figure for: support
    closest to `threshold`, lowest place in a selection, lowest scores, scores that disagree most."""
    check_form(out)
    check_free(out, [name])
    reasons = _reasons(threshold)
    ranked: list[list[tuple[float, str, int]]] = [[] for _ in reasons]
    read = 0
    for place, given in enumerate(read_given(name)):
        read = place + 1
        facts = facts_of(given)
        for ranking, reason in zip(ranked, reasons, strict=True):
            if (found := reason(given, facts)) is not None:
                ranking.append((found[0], found[1], place))
    if not any(ranked):
        raise DataError(f"{name}: no row has `support`, `scores` or `selection` to tell borderline ones by")
    chosen = _in_turn([sorted(ranking, key=lambda entry: (entry[0], entry[2])) for ranking in ranked], n)
    lines = [_line(given, chosen[place]) for place, given in enumerate(read_given(name)) if place in chosen]
    write_sheet(out, lines)
    text = f"{len(lines):,} of {read:,} rows in {out}: fill in `decision` with {', '.join(DECISIONS)} and import it"
    return {"out": str(out), "rows": len(lines), "read": read, "text": text}


def _reasons(threshold: float) -> tuple[Reason, ...]:
    def near(given: Given, facts: RowFacts) -> tuple[float, str] | None:
        if facts.support is None:
            return None
        return abs(facts.support - threshold), f"support {facts.support:.2f} (accepted from {threshold:g})"

    def low_place(given: Given, facts: RowFacts) -> tuple[float, str] | None:
        chosen = given.raw.get("selection")
        score = chosen.get("score") if isinstance(chosen, Mapping) else None
        if not isinstance(chosen, Mapping) or not isinstance(score, int | float):
            return None
        return float(score), f"selected at rank {chosen.get('rank')}, score {score:.3f}"

    def low_scores(given: Given, facts: RowFacts) -> tuple[float, str] | None:
        if not facts.scores:
            return None
        name = min(facts.scores, key=lambda key: facts.scores[key])
        return facts.scores[name], f"{name} {facts.scores[name]:g}"

    def disagree(given: Given, facts: RowFacts) -> tuple[float, str] | None:
        if len(facts.scores) < 2:
            return None
        low, high = min(facts.scores.values()), max(facts.scores.values())
        return low - high, f"scores from {low:g} to {high:g}"

    return near, low_place, low_scores, disagree


def _in_turn(rankings: Sequence[Sequence[tuple[float, str, int]]], n: int) -> dict[int, str]:
    """Place of a row -> why, by the first reason that brings it in."""
    chosen: dict[int, str] = {}
    for turn in range(max(map(len, rankings), default=0)):
        for ranking in rankings:
            if turn < len(ranking) and len(chosen) < n:
                chosen.setdefault(ranking[turn][2], ranking[turn][1])
    return chosen


def _line(given: Given, why: str) -> Line:
    supports = given.row.get("support")
    several = isinstance(supports, list) and len(supports) == len(answers_of(given.row))
    turn = supports.index(min(supports)) if several and supports else 0
    questions, answers = questions_of(given.row), answers_of(given.row)
    evidence = given.row.get("evidence")
    quotes = [
        str(entry.get("text") or "")
        for entry in (evidence if isinstance(evidence, list) else [])
        if isinstance(entry, Mapping) and entry.get("turn", 0) == turn
    ]
    return Line(
        id=given.id,
        hash=content_key(given.row),
        turn=turn,
        why=why,
        question=questions[min(turn, len(questions) - 1)],
        answer=answers[turn],
        evidence="\n".join(quotes)[:EXCERPT_CHARS],
    )
