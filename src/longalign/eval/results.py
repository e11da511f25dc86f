"""The types of `results.json`: figures with their intervals, the model, and how rows are compared.

`results.json` carries a `schema`; older files without one are read as well. Names without a unit are counts of
questions or shares of right answers (0-1).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from longalign.core.stats import mean_interval, wilson_interval
from longalign.errors import RunError
from longalign.eval.answers import Spend
from longalign.eval.endings import ENDINGS, FAILURES, count_endings, count_failures

SCORES = "scores.jsonl"
RESULTS = "results.json"
SCHEMA = 2
"""1: without `identity` and `compared.scale`; read as well."""
HEADLINES = ("accuracy", "mean", "share")
"""What a figure that stands for a whole row of results may be called; the first that is there counts."""

Row = dict[str, Any]
"""One line of `scores.jsonl`: at least `key`, `question`, `expected`, `answer`, `failure` and `score` (or null).
`finish` says how the answer ended (`answers.Ending`)."""


def headline(row: Mapping[str, Any]) -> float | None:
    """The figure that stands for a row of results."""
    return next((row[name] for name in HEADLINES if row.get(name) is not None), None)


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts of a group of questions, and the share of right answers among the scored ones with Wilson's interval."""

    questions: int
    scored: int
    failed: int
    right: int
    accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Counts of a group of questions, and the mean of their figures with a t-interval."""

    questions: int
    scored: int
    failed: int
    mean: float | None
    low: float | None
    high: float | None


def tally(scored: Sequence[bool], questions: int) -> Tally:
    """`scored`: right or wrong of every answer; `questions`: those without an answer included."""
    interval = wilson_interval(sum(scored), len(scored)) if scored else None
    return Tally(
        questions=questions,
        scored=len(scored),
        failed=questions - len(scored),
        right=sum(scored),
        accuracy=rounded(interval.estimate) if interval else None,
        low=rounded(interval.low) if interval else None,
        high=rounded(interval.high) if interval else None,
    )


def mean_figure(scored: Sequence[float], questions: int, scale: tuple[float, float] | None = None) -> Mean:
    """`scored`: the figure of every answer; `questions`: those without an answer included; `scale`: see `Compared`."""
    interval = mean_interval(scored, scale=scale) if scored else None
    return Mean(
        questions=questions,
        scored=len(scored),
        failed=questions - len(scored),
        mean=rounded(interval.estimate) if interval else None,
        low=rounded(interval.low) if interval else None,
        high=rounded(interval.high) if interval else None,
    )


def mean_of(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Mean of a field; None of no rows."""
    return rounded(sum(row[name] for row in rows) / len(rows)) if rows else None


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are there; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def rounded(value: float | None) -> float | None:
    """As results are written: six places."""
    return None if value is None else round(value, 6)


@dataclass(frozen=True)
class Compared:
    """How rows of two models are compared: where a row holds its figure, and which rows belong together.

    `figure` and `group` are keys of a row (`score.value`: a key inside a key); rows of one `cluster` are not
    independent of each other. `scale`: the lowest and the highest figure there can be, where that is known; intervals
    stay on it.
    """

    figure: str = "score"
    group: str = "kind"
    cluster: str | None = None
    scale: tuple[float, float] | None = None

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Compared:
        """From `results.json`."""
        scale = written.get("scale")
        return cls(**{**written, "scale": tuple(scale) if scale else None})

    def value(self, row: Mapping[str, Any]) -> float:
        """The figure of a scored row."""
        value: Any = row
        for key in self.figure.split("."):
            value = value[key]
        return float(value)


@dataclass(frozen=True)
class ModelFacts:
    """The entry of the model under test."""

    model: str
    length_unit: str | None = None
    model_window_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The results of a task. `figures`: the task's own frozen dataclass; `waiting`: temporary failures."""

    rows: Sequence[Row]
    figures: Any
    model: ModelFacts
    spend: Spend | None = None
    waiting: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskResults:
    """All of `results.json`. `identity` is the same for evaluations of one system (`identity.py`)."""

    task: str
    title: str
    label: str
    model_seed: int | None
    identity: str
    compared: Compared
    measured: Measured = field(repr=False)

    def to_file(self) -> dict[str, Any]:
        """As the file holds it; the task's own figures stand beside the common ones."""
        spent = self.measured.spend
        endings, failures = count_endings(self.measured.rows), count_failures(self.measured.rows)
        return {
            "schema": SCHEMA,
            "task": self.task,
            "title": self.title,
            "label": self.label,
            "model_seed": self.model_seed,
            "identity": self.identity,
            **asdict(self.measured.model),
            **asdict(self.measured.figures),
            "compared": asdict(self.compared),
            **({ENDINGS: endings} if endings else {}),
            **({FAILURES: failures} if failures else {}),
            **({"spend": asdict(spent)} if spent else {}),
        }


def read_results(path: Path) -> dict[str, Any]:
    """The results in a file. `RunError` where it is damaged, or newer than this program."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); remove it and run its stage again") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: not the results of a stage; remove it and run its stage again")
    written = value.get("schema", 0)
    if not isinstance(written, int) or written > SCHEMA:
        raise RunError(
            f"{path}: written by a newer version of LongAlign (schema {written}, here up to {SCHEMA}); "
            "update with pip install -U longalign, or evaluate again into another folder"
        )
    return cast(dict[str, Any], value)


def results_of_task(folder: Path) -> dict[str, Any]:
    """The results in the folder of one finished task. `RunError` where there are none, or those of several tasks."""
    path = folder / RESULTS
    if not path.exists():
        raise RunError(
            f"{folder}: no {RESULTS} here; give the folder of one finished task (for example RUN/eval/needle)"
        )
    results = read_results(path)
    if "task" not in results:
        raise RunError(f"{folder}: holds several tasks; name one of its folders, for example {folder / 'needle'}")
    return results
