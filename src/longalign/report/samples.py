"""Answers side by side: the same question to every model, chosen where the models differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longalign.base.files import random_for
from longalign.eval.task import JUDGED_PARTS
from longalign.report.collect import Findings, Stage
from longalign.report.words import decimal

WANTED = {"needle": 4, "short": 4, "chat": 3, "longbench": 2, "mt_bench": 2}
LONGEST_TEXT = 600


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
    for task, count in WANTED.items():
        evaluated = {label: stages[0] for label, stages in findings.evaluated(task).items()}
        if evaluated:
            chosen += _choose(task, evaluated, count)
    return chosen


def _choose(task: str, evaluated: dict[str, Stage], count: int) -> list[Sample]:
    rows = {label: {row["key"]: row for row in stage.scores} for label, stage in evaluated.items()}
    shared = [key for key in next(iter(rows.values()), {}) if all(key in by_key for by_key in rows.values())]
    shared = [key for key in shared if len({by_key[key]["question"] for by_key in rows.values()}) == 1]
    order = random_for(0, "samples", task).permutation(len(shared))
    ranked = sorted((shared[i] for i in order), key=lambda key: -_disagreement(task, [r[key] for r in rows.values()]))
    picked: list[str] = []
    places: set[str] = set()
    for key in [*ranked, *ranked]:  # first one of each length or kind, then whatever differs most
        place = _place(task, next(iter(rows.values()))[key])
        if (
            key not in picked
            and len(picked) < count
            and (place not in places or len(places) >= _kinds(task, rows, ranked))
        ):
            picked.append(key)
            places.add(place)
    if task == "needle":
        picked.sort(key=lambda key: next(iter(rows.values()))[key]["length"])
    return [_sample(task, {label: by_key[key] for label, by_key in rows.items()}) for key in picked]


def _kinds(task: str, rows: dict[str, dict[str, Any]], keys: Sequence[str]) -> int:
    first = next(iter(rows.values()))
    return len({_place(task, first[key]) for key in keys})


def _sample(task: str, rows: dict[str, dict[str, Any]]) -> Sample:
    first = next(iter(rows.values()))
    said = tuple(_said(task, label, row) for label, row in rows.items())
    return Sample(task, _place(task, first), _clip(first["question"]), _clip(first["expected"]), said)


def _said(task: str, label: str, row: dict[str, Any]) -> Said:
    if row["answer"] is None:
        return Said(label, row["failure"] or "no answer", "no answer", None)
    answer = _clip(row["answer"]) or "(nothing)"
    if row["score"] is None:
        return Said(label, answer, "no readable verdict", None)
    if task in JUDGED_PARTS:
        ratings = ", ".join("?" if rating is None else str(rating) for rating in row["ratings"])
        return Said(label, answer, f"{decimal(row['score'], 1)} ({ratings})", None)
    if task == "needle":
        verdict = {
            (True, True): "right",
            (False, True): "right value, name not restated",
            (True, False): "name restated, wrong value",
            (False, False): "wrong",
        }[row["score"]["name"], row["score"]["value"]]
        return Said(label, answer, verdict, bool(row["score"]["value"]))
    right = bool(row["score"]["exact"])
    return Said(label, answer, "right" if right else "wrong", right)


def _disagreement(task: str, rows: Sequence[dict[str, Any]]) -> float:
    values = [0.0 if row["score"] is None else _value(task, row["score"]) for row in rows]
    return max(values) - min(values)


def _value(task: str, score: Any) -> float:
    if task in JUDGED_PARTS:
        return float(score)
    return float(score["value"] if task == "needle" else score["exact"])


def _place(task: str, row: dict[str, Any]) -> str:
    if task == "needle":
        return f"{row['length']:,} long, depth {row['depth']:.0%}"
    return str(row["kind"] if task == "short" else row["dataset"])


def _clip(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT // 2]} [...] {text[-LONGEST_TEXT // 2 :]}"
