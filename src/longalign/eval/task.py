"""`Task`, the type of every evaluation, and `ExactTask`, for answers that a rule scores.

A task is a frozen object that holds its settings. The code that runs, plans, compares or reports evaluations uses this
interface and knows no task by name; `registry.py` lists those of this package. docs/guide/extend-it.md adds one.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import fingerprint, fingerprint_path
from longalign.config import EvalSettings, Settings
from longalign.data.source import documents_fingerprint
from longalign.errors import ConfigError, DataError, LongAlignError
from longalign.eval.answers import ANSWERS, Answer, Item, passing_failures, spend
from longalign.eval.endings import FINISH
from longalign.eval.results import Compared, Mean, Measured, ModelFacts, Row, Tally, mean_figure, tally
from longalign.eval.subject import Subject, open_subject
from longalign.eval.token_view import CharacterView, TokenView

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Reads:
    """The inputs of a task by the setting that names them: files, and documents (files, folders, `builtin:` names)."""

    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    documents: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def fingerprints(self) -> dict[str, str]:
        """Content by setting."""
        found = {key: files_fingerprint(paths) for key, paths in self.files.items() if paths}
        return found | {key: documents_fingerprint(names) for key, names in self.documents.items() if names}


def files_fingerprint(paths: Sequence[str]) -> str:
    """Content of the files and folders an evaluation reads; names of bundled ones."""
    return fingerprint([fingerprint_path(p) if Path(p).exists() else p for p in paths])


@dataclass(frozen=True)
class JudgeCost:
    """The cost of judging; `cost_usd` is None without a price."""

    judge: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


@dataclass(frozen=True)
class Cost:
    """The prompts a task sends to one model: tokens of each (None: unknown), and notes on what is not counted."""

    prompt_tokens_N: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task(ABC, Generic[S]):
    """One evaluation with its settings. Subclasses name themselves:

    `name` keys settings, results and folders; `title` heads its part of the page; `version` counts changes of the code
    that change its results; `listed`: the key of its results that a recipe lists row by row
    (default: `overall` alone).
    """

    settings: S

    name: ClassVar[str]
    title: ClassVar[str]
    settings_class: ClassVar[type[Settings]]
    version: ClassVar[int] = 1
    compared: ClassVar[Compared] = Compared()
    listed: ClassVar[str | None] = None

    def reads(self) -> Reads:
        """Inputs that results depend on besides settings and model; checked before anything runs."""
        return Reads()

    def check(self) -> None:
        """Raise early what would fail later: a missing key or package, an unusable file. Calls no model."""
        return

    @abstractmethod
    def measure(self, model: EvalSettings, out: Path) -> Measured:
        """Ask the model and score its answers; questions answered in `out` are not asked again."""

    def measure_open(self, subject: Subject, out: Path) -> Measured:
        """`measure`, on a model that is open already: one that is being trained."""
        raise ConfigError(f"task {self.name} opens its model by itself, so a model in training cannot be asked")

    def cost(self, window: int) -> Cost:
        """Its prompts to a model with this window, from the settings alone."""
        return Cost(notes=(f"eval.{self.name}: not counted here",))

    def judge_cost(self, answers: int) -> JudgeCost | None:
        """The cost of judging that many answers; None without a judge."""
        return None

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        """The results for a person: overall, then by group."""
        row = results["overall"]
        lines = [f"{results.get('title', results['task'])} of {results['label']}: {shown(row)}"]
        lines += [f"{name:>20} {shown(group)}" for name, group in results.get("by_kind", {}).items()]
        return lines + ([f"note: {row['failed']} of {row['questions']} have no answer"] if row["failed"] else [])


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question and its right answer. `kind` groups questions in results, comparison and page.

    `also_right`: other answers that are just as right; the best match counts.
    """

    key: str
    messages: tuple[Mapping[str, str], ...]
    expected: str
    kind: str = "all"
    max_new_tokens: int = 32
    also_right: tuple[str, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every right answer."""
        return (self.expected, *self.also_right)

    @classmethod
    def of(cls, key: str, prompt: str, expected: str, *, kind: str = "all", max_new_tokens: int = 32) -> Question:
        """A question that is one message."""
        messages = ({"role": "user", "content": prompt},)
        return Question(key=key, messages=messages, expected=expected, kind=kind, max_new_tokens=max_new_tokens)

    @property
    def item(self) -> Item:
        return Item(self.key, self.messages, self.max_new_tokens)


Q = TypeVar("Q", bound=Question)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Results of a task that has no others: over all questions and by kind."""

    overall: Tally | Mean
    by_kind: dict[str, Tally | Mean]


@dataclass(frozen=True)
class ExactTask(Task[S], Generic[S, Q]):
    """A task whose answers a rule scores. It needs `questions` and `score`; all else has a default.

    `graded`: whether scores are other numbers than 0 and 1, so that results hold means instead of shares.
    """

    graded: ClassVar[bool] = False

    @abstractmethod
    def questions(self, view: TokenView) -> Iterable[Q]:
        """The same questions in the same order for the same settings; `view` counts tokens of the model's prompts."""

    @abstractmethod
    def score(self, question: Q, answer: str) -> Any:
        """The figure of an answer, 1 for right and 0 for wrong; or several, of which `compared.figure` names one."""

    def measure(self, model: EvalSettings, out: Path) -> Measured:
        with open_subject(model, out) as subject:
            return self.measure_open(subject, out)

    def measure_open(self, subject: Subject, out: Path) -> Measured:
        with self._own_code("questions"):
            questions = list(self.questions(subject.view))
        first = {question.key: question for question in reversed(questions)}
        if again := [q.key for q in questions if q.messages != first[q.key].messages]:
            raise ConfigError(f"task {self.name}: several questions have the key `{again[0]}`; give each its own")
        answers = subject.ask([question.item for question in questions], out / ANSWERS, self.title.lower())
        readings = self.readings(questions, subject, out)
        rows = []
        for question in questions:
            answer = answers[question.key]
            rows.append(self.row(question, answer, readings.get(question.key)) | {FINISH: answer.ending})
        return Measured(
            rows=rows,
            figures=self.summarise(rows, subject.facts),
            model=subject.facts,
            spend=spend(list(answers.values())),
            waiting=passing_failures(answers),
        )

    def readings(self, questions: Sequence[Q], subject: Subject, out: Path) -> Mapping[str, Any]:
        """Other measurements on the open model, by key; none by default."""
        return {}

    def row(self, question: Q, answer: Answer, reading: Any = None) -> Row:
        """One line of `scores.jsonl`; `score` is null where there is no answer."""
        with self._own_code("score"):
            score = None if answer.text is None else self.score(question, answer.text)
        return {
            "key": question.key,
            "kind": question.kind,
            "question": question.messages[-1]["content"],
            "expected": question.expected,
            "answer": answer.text,
            "failure": answer.failure,
            "score": score,
        }

    @contextmanager
    def _own_code(self, method: str) -> Iterator[None]:
        """Raise `ConfigError` with the place where a method of the task failed by a mistake in it."""
        try:
            yield
        except LongAlignError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"task {self.name}: `{method}` failed at {place.filename}:{place.lineno}: {what}"
            ) from error

    def summarise(self, rows: Sequence[Row], model: ModelFacts) -> Any:
        """A frozen dataclass of figures, from the rows; the default has shares (or means) over all and by kind."""

        def figure(rows: Sequence[Row]) -> Tally | Mean:
            values = [self.compared.value(row) for row in rows if row["score"] is not None]
            if self.graded:
                low, high = self.compared.scale or (-np.inf, np.inf)
                if odd := [value for value in values if not low <= value <= high]:
                    raise ConfigError(f"task {self.name}: score {odd[0]} is not on `compared.scale`, {low} to {high}")
                return mean_figure(values, len(rows), self.compared.scale)
            if odd := [value for value in values if value not in (0, 1)]:
                raise ConfigError(f"task {self.name}: score {odd[0]} is neither 0 nor 1; set `graded = True`")
            return tally([value == 1 for value in values], len(rows))

        return Figures(
            overall=figure(rows),
            by_kind={kind: figure([row for row in rows if row["kind"] == kind]) for kind in kinds(rows)},
        )

    def cost(self, window: int) -> Cost:
        """The questions themselves, at four characters a token."""
        view = CharacterView()
        try:
            tokens = [view.count(view.render(question.messages)) for question in self.questions(view)]
        except DataError as error:
            return Cost(notes=(f"eval.{self.name}: not counted here ({error})",))
        return Cost(np.array(tokens, dtype=np.int64))


def kinds(rows: Sequence[Row]) -> list[str]:
    """Kinds in order of first appearance."""
    return list(dict.fromkeys(row["kind"] for row in rows))


def shown(row: Mapping[str, Any]) -> str:
    """`0.750 [0.601, 0.858]`: a figure of results with its interval."""
    return interval_text(row.get("accuracy", row.get("mean")), row["low"], row["high"])


def interval_text(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "nothing scored"
    return f"{estimate:.3f}" if low is None or high is None else f"{estimate:.3f} [{low:.3f}, {high:.3f}]"
