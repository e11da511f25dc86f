"""Questions without an answer: left out of the figures (the default), or counted as wrong.

Left out, a model that fails on hard questions looks better than it is; counted as wrong, a server that was down makes
it look worse. Both are said beside the figure. An unreadable verdict is the judge's failure and never counts as wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from longalign.core.stats import wilson_interval
from longalign.eval.judge_prompt import SCALES, Rubric
from longalign.eval.judged_figures import summarize
from longalign.eval.needle_figures import LEFT_OUT
from longalign.eval.results import Compared, Row, mean_figure, rounded

Failed = Literal["left_out", "wrong"]


def has_failed(row: Mapping[str, Any]) -> bool:
    """Whether the model gave no answer."""
    return row["score"] is None and "answer" in row and row["answer"] is None


def as_wrong(row: Row, how: Compared) -> Row:
    """A row that failed, with the lowest figure there is; others as they are."""
    if not has_failed(row):
        return row
    lowest = SCALES[row["rubric"]][0] if "rubric" in row else how.scale[0] if how.scale else 0
    first, *inner = how.figure.split(".")
    value: Any = lowest
    for key in reversed(inner):
        value = {key: value}
    return row | {first: value, "counted_wrong": True}


def count_as_wrong(results: Mapping[str, Any], rows: Sequence[Row], how: Compared) -> dict[str, Any]:
    """Results with failed questions counted as wrong: `counted_wrong` says how many, and `failed` is 0."""
    wrong = [as_wrong(row, how) for row in rows]
    if "judge" in results:
        rubrics = {name: Rubric(name, *SCALES[name], "") for name in {row["rubric"] for row in rows}}
        figures = asdict(summarize(wrong, rubrics))
        return {**results, **{name: _marked(new, results.get(name)) for name, new in figures.items()}}
    changed = dict(results)
    if "notes" in results:
        changed["notes"] = [str(note).replace(LEFT_OUT, "count as wrong") for note in results["notes"]]
    for name, part in results.items():
        if isinstance(part, Mapping):
            changed[name] = _counted(part, wrong if name == "overall" else None, wrong, how)
    return changed


def _counted(part: Mapping[str, Any], mine: Sequence[Row] | None, rows: Sequence[Row], how: Compared) -> dict[str, Any]:
    """A figure, or a tree of them: `mine` are the rows of the figure, `rows` all of them."""
    if {"questions", "scored", "failed"} <= part.keys():
        if "right" in part and part["questions"]:
            interval = wilson_interval(part["right"], part["questions"])
            figures = {"accuracy": interval.estimate, "low": rounded(interval.low), "high": rounded(interval.high)}
        elif mine is not None and "mean" in part:
            values = [how.value(row) for row in mine if row["score"] is not None]
            figures = asdict(mean_figure(values, len(mine), how.scale))
        else:
            return dict(part)
        counted = {"scored": part["questions"], "failed": 0, "counted_wrong": part["failed"]}
        return {**part, **figures, **counted}
    groups = {name: [row for row in rows if str(row.get(how.group)) == name] for name in part}
    return {
        name: _counted(inner, groups[name], rows, how) if isinstance(inner, Mapping) else inner
        for name, inner in part.items()
    }


def _marked(new: Any, old: Any) -> Any:
    """Judged figures with the number of failed questions kept apart."""
    if not isinstance(new, Mapping) or not isinstance(old, Mapping):
        return new
    if "questions" in new:
        return {**new, "failed": 0, "counted_wrong": old["failed"]}
    return {name: _marked(inner, old.get(name)) for name, inner in new.items()}
