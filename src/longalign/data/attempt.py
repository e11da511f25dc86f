"""What a dialogue over a document has come to so far, and how a step of it asks the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from longalign.data.documents import Document
from longalign.data.verify import Evidence
from longalign.llm.base import Failure, Outcome, Request
from longalign.llm.prompt import Task, Wording

T = TypeVar("T")
Step = Generator[Request, Outcome, T]
"""A part of a dialogue: yields requests, is sent their outcomes, returns a result."""


@dataclass(frozen=True)
class Turn:
    """A question, its accepted answer, and where the document supports it.

    support: share of the answer's words that the evidence covers; None of an answer that says what the document lacks.
    hops: distant places that the answer needs, where that was verified. checks, scores: the checker's verdict, None
    where there is none that can be read.
    """

    question: str
    answer: str
    evidence: list[Evidence]
    support: float | None
    reasoning: str = ""
    hops: int | None = None
    checks: Mapping[str, bool] | None = None
    scores: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Rejection:
    """Why a question or a whole candidate gave no data."""

    reason: str
    detail: str = ""
    question: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Companion:
    """Another document for the same row. `length_tokens`: of its text."""

    document: Document
    length_tokens: int


@dataclass
class Attempt:
    """Everything that came of one candidate.

    before, after: other documents of the row, in order around `document`; `together` if questions are about all of
    them, and evidence counts from the start of all. calls, tokens: by what they were for;
    tokens are counted where the model reports them. language: names the wording of its prompts.
    """

    document: Document
    task: Task
    language: Wording
    model: str = ""
    length_tokens: int = 0
    turns: list[Turn] = field(default_factory=list)
    rejected_turns: list[Rejection] = field(default_factory=list)
    rejection: Rejection | None = None
    over_budget: bool = False
    answerable: bool = True
    checked_by: str = ""
    together: bool = False
    before: tuple[Companion, ...] = ()
    after: tuple[Companion, ...] = ()
    calls: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)

    @property
    def companions(self) -> tuple[Companion, ...]:
        """The other documents of the row."""
        return *self.before, *self.after


class OverBudgetError(Exception):
    """The cap on money was met: no step after this one can be asked. Caught in `make_row`."""


def ask(attempt: Attempt, purpose: str, request: Request) -> Step[Outcome]:
    """The outcome of one request, entered into the attempt's calls. Raises `OverBudgetError`."""
    outcome = yield request
    if isinstance(outcome, Failure) and outcome.kind == "over_budget":
        raise OverBudgetError(outcome.message)
    attempt.calls[purpose] += 1
    attempt.tokens[purpose] += (outcome.prompt_tokens or 0) + (outcome.completion_tokens or 0)
    return outcome


def fail(attempt: Attempt, rejection: Rejection) -> Attempt:
    """The attempt without a row."""
    attempt.rejection = rejection
    attempt.over_budget = rejection.reason.endswith("over_budget")
    return attempt


def user(content: str) -> dict[str, str]:
    """A message."""
    return {"role": "user", "content": content}


def without_texts(attempt: Attempt) -> Attempt:
    """The attempt without the texts of its documents: thousands of long texts are not kept in memory."""
    return with_texts(attempt, lambda document: replace(document, text=""))


def with_texts(attempt: Attempt, load: Callable[[Document], Document]) -> Attempt:
    """The attempt with its documents as `load` gives them, by their ids."""

    def loaded(companions: tuple[Companion, ...]) -> tuple[Companion, ...]:
        return tuple(replace(companion, document=load(companion.document)) for companion in companions)

    return replace(
        attempt,
        document=load(attempt.document),
        before=loaded(attempt.before),
        after=loaded(attempt.after),
    )
