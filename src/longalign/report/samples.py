"""Answers side by side: the same question to every model, chosen where the models differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longalign.base.files import random_for
from longalign.eval.compare import compared_by
from longalign.eval.registry import first_name
from longalign.eval.results import Compared, Row
from longalign.report.collect import Findings
from longalign.report.stage import Stage
from longalign.report.words import decimal

WANTED = {"needle": 4, "short": 4, "longbench_chat": 3}
OTHERS = 2
LONGEST_TEXT = 600
ENDED = {
    "cut": "cut by the cap on new tokens",
    "thinking_cut": "only thoughts, cut by the cap on new tokens",
    "only_thinking": "only thoughts",
}
"""What is said behind an answer that did not end well."""


@dataclass(frozen=True)
class Said:
    """One model's answer and how it was scored; `right` is None where it was not scored or is a matter of degree."""

    label: str
    answer: str
    verdict: str
    right: bool | None


@dataclass(frozen=True)
class Sample:
    """One question with every model's answer."""

    task: str
    where: str
    question: str
    expected: str
    said: tuple[Said, ...]


def samples(findings: Findings) -> list[Sample]:
    """A few questions of each task, right and wrong ones; the choice depends on the questions only."""
    chosen = []
    for task in findings.tasks():
        evaluated = {label: stages[0] for label, stages in findings.evaluated(task).items()}
        chosen += _choose(task, evaluated, WANTED.get(task, OTHERS))
    return chosen


def _choose(task: str, evaluated: dict[str, Stage], count: int) -> list[Sample]:
    rows = {label: {row["key"]: row for row in stage.scores if "answer" in row} for label, stage in evaluated.items()}
    how = compared_by(next(iter(evaluated.values())).results or {"task": task})
    shared = [key for key in next(iter(rows.values()), {}) if all(key in by_key for by_key in rows.values())]
    shared = [key for key in shared if len({by_key[key]["question"] for by_key in rows.values()}) == 1]
    order = random_for(0, "samples", first_name(task)).permutation(len(shared))
    ranked = sorted((shared[i] for i in order), key=lambda key: -_disagreement(how, [r[key] for r in rows.values()]))
    picked: list[str] = []
    places: set[str] = set()
    for key in [*ranked, *ranked]:  # first one of each length or kind, then whatever differs most
        place = _place(how, next(iter(rows.values()))[key])
        if (
            key not in picked
            and len(picked) < count
            and (place not in places or len(places) >= _kinds(how, rows, ranked))
        ):
            picked.append(key)
            places.add(place)
    if how.group == "length":
        picked.sort(key=lambda key: next(iter(rows.values()))[key]["length"])
    return [_sample(task, how, {label: by_key[key] for label, by_key in rows.items()}) for key in picked]


def _kinds(how: Compared, rows: dict[str, dict[str, Row]], keys: Sequence[str]) -> int:
    first = next(iter(rows.values()))
    return len({_place(how, first[key]) for key in keys})


def _sample(task: str, how: Compared, rows: dict[str, Row]) -> Sample:
    first = next(iter(rows.values()))
    said = tuple(_said(how, label, row) for label, row in rows.items())
    return Sample(task, _place(how, first), _clip(first["question"]), _clip(first["expected"]), said)


def _said(how: Compared, label: str, row: Row) -> Said:
    if row["answer"] is None:
        return Said(label, row["failure"] or "no answer", "no answer", None)
    answer = _clip(row["answer"]) or "(nothing)"
    if ended := ENDED.get(row.get("finish", "whole")):
        answer = f"{answer} [{ended}]"
    if row["score"] is None:
        return Said(label, answer, "no readable verdict", None)
    if "ratings" in row:
        ratings = ", ".join("?" if rating is None else str(rating) for rating in row["ratings"])
        return Said(label, answer, f"{decimal(row['score'], 1)} ({ratings})", None)
    if isinstance(row["score"], dict) and row["score"].get("name") is not None:
        verdict = {
            (True, True): "right",
            (False, True): "right value, name not restated",
            (True, False): "name restated, wrong value",
            (False, False): "wrong",
        }[row["score"]["name"], row["score"]["value"]]
        return Said(label, answer, verdict, bool(row["score"]["value"]))
    value = how.value(row)
    if value not in (0, 1):
        return Said(label, answer, decimal(value), None)
    return Said(label, answer, "right" if value else "wrong", bool(value))


def _disagreement(how: Compared, rows: Sequence[Row]) -> float:
    values = [0.0 if row["score"] is None else how.value(row) for row in rows]
    return max(values) - min(values)


def _place(how: Compared, row: Row) -> str:
    if how.group == "length":
        return f"{row['length']:,} long, depth {row['depth']:.0%}"
    return str(row[how.group])


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT // 2]} [...] {text[-LONGEST_TEXT // 2 :]}"
