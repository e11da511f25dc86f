"""One row from one document: the model writes questions, some are drawn, each is answered and checked (section 3.1).

`make_row` is a dialogue (`longalign.llm.dialogue`): it yields requests and is sent outcomes, and knows nothing of
endpoints, money or files. Every draw is keyed by document and pass, so order and concurrency change nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from longalign.base.files import fingerprint, random_for
from longalign.config import DataSettings
from longalign.core.text import words
from longalign.data.documents import Document
from longalign.data.verify import Evidence, Passages, alike, answer_fault, question_fault, unsupported_number
from longalign.llm.base import Failure, Outcome, Request
from longalign.llm.prompt import (
    PromptLanguage,
    Task,
    answer_request,
    closed_book_request,
    follow_up_request,
    numbered_items,
    prompt_hash,
    prompt_language,
    questions_request,
    row_message,
)

QUESTION_TOKENS = 128
SHOWN_CHARS = 400


@dataclass(frozen=True)
class Turn:
    """A question, its accepted answer, and where the document supports it."""

    question: str
    answer: str
    evidence: list[Evidence]
    support: float
    reasoning: str = ""


@dataclass(frozen=True)
class Rejection:
    """Why a question or a whole candidate gave no data."""

    reason: str
    detail: str = ""
    question: str = ""
    answer: str = ""


@dataclass
class Attempt:
    """Everything that came of one candidate."""

    document: Document
    task: Task
    language: PromptLanguage
    model: str = ""
    length_tokens: int = 0
    turns: list[Turn] = field(default_factory=list)
    rejected_turns: list[Rejection] = field(default_factory=list)
    rejection: Rejection | None = None
    over_budget: bool = False


def draw_task(document_id: str, number: int, settings: DataSettings) -> tuple[Task, int]:
    """(task type, how many earlier passes had it) of a document's pass: all types once before any comes again."""
    order = random_for(settings.seed, "task", document_id).permutation(len(settings.tasks))
    tasks = [settings.tasks[int(order[position % len(order)])] for position in range(number + 1)]
    return tasks[-1], tasks[:-1].count(tasks[-1])


def make_row(document: Document, number: int, settings: DataSettings) -> Generator[Request, Outcome, Attempt]:
    """The dialogue of one candidate: pass `number` over a document."""
    task, earlier = draw_task(document.id, number, settings)
    # A later pass of the same type takes the questions left over by the first, or asks for new ones.
    call, used = divmod(earlier, max(1, settings.questions_per_call // settings.turns))
    language = prompt_language(document.language)
    attempt = Attempt(document, task, language)
    call_seed = int(random_for(settings.seed, "questions", document.id, task, call).integers(2**31))
    outcome = yield Request(
        messages=(_user(questions_request(document.text, task, settings.questions_per_call, language)),),
        max_new_tokens=settings.max_question_tokens or QUESTION_TOKENS * settings.questions_per_call,
        temperature=settings.question_temperature,
        seed=call_seed,
        shared_prefix_characters=len(document.text),
    )
    attempt.model = outcome.model
    if isinstance(outcome, Failure):
        return _fail(attempt, Rejection(f"questions: {outcome.kind}", outcome.message, answer=outcome.text))
    questions = _usable_questions(numbered_items(outcome.text, limit=settings.questions_per_call), attempt)
    if not questions:
        reason = "questions: none usable" if attempt.rejected_turns else "questions: no numbered list"
        return _fail(attempt, Rejection(reason, answer=outcome.text))
    order = random_for(settings.seed, "question", document.id, task, call).permutation(len(questions))
    drawn = [questions[int(place)] for place in order][used * settings.turns :]
    yield from _answer_questions(attempt, drawn, settings)
    return attempt


def row_of(attempt: Attempt) -> dict[str, Any]:
    """The row of an accepted candidate, as it is written."""
    document = attempt.document
    return {
        "id": row_id(attempt),
        "messages": conversation(attempt),
        "source": document.source,
        "task": attempt.task,
        "language": document.language,
        "length_tokens": attempt.length_tokens,
        "document": document.id,
        "title": document.title,
        "origin": document.origin,
        "evidence": [
            {"turn": number, "text": e.text, "start": e.start, "end": e.end, "position": e.position}
            for number, turn in enumerate(attempt.turns)
            for e in turn.evidence
        ],
        "support": [round(turn.support, 4) for turn in attempt.turns],
        "model": attempt.model,
        "prompt": prompt_hash(attempt.language),
    }


def row_id(attempt: Attempt) -> str:
    """Content key of a row."""
    pairs = [(turn.question, turn.answer) for turn in attempt.turns]
    return fingerprint(attempt.document.id, attempt.task, pairs)[:16]


def conversation(attempt: Attempt, *, reasoning: bool = True) -> list[dict[str, str]]:
    """The messages of a row: document and first question together, further questions alone. `reasoning`: with what the
    model thought before an answer, where that was kept; no model is sent its earlier thoughts."""
    messages: list[dict[str, str]] = []
    for number, turn in enumerate(attempt.turns):
        text = turn.question if number else row_message(attempt.document.text, turn.question)
        thoughts = {"reasoning_content": turn.reasoning} if turn.reasoning and reasoning else {}
        messages += [_user(text), {"role": "assistant", **thoughts, "content": turn.answer}]
    return messages


def _usable_questions(items: list[str], attempt: Attempt) -> list[str]:
    usable = []
    for item in items:
        fault = question_fault(item, attempt.document.language)
        if fault is None:
            usable.append(item)
        else:
            attempt.rejected_turns.append(Rejection(fault, question=item))
    return usable


def _answer_questions(attempt: Attempt, drawn: list[str], settings: DataSettings) -> Generator[Request, Outcome, None]:
    """Answer questions until the row has its turns; spare ones stand in where more than one turn is wanted.

    With one turn the first failure rejects the candidate: another document is the better spare.
    """
    passages: Passages | None = None
    for question in drawn[:1] if settings.turns == 1 else drawn:
        outcome = yield _answer_call(attempt, question, settings)
        if isinstance(outcome, Failure) and outcome.kind == "over_budget":
            _fail(attempt, Rejection("answer: over_budget", outcome.message))
            return
        passages = passages or Passages(attempt.document.text)
        checked = check_answer(attempt, question, outcome, passages, settings)
        if settings.closed_book and isinstance(checked, Turn):
            blind = yield Request(
                messages=(_user(closed_book_request(question, attempt.language)),),
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.answer_temperature,
                seed=settings.seed,
            )
            if isinstance(blind, Failure) and blind.kind == "over_budget":
                _fail(attempt, Rejection("answer: over_budget", blind.message))
                return
            if alike(checked.answer, blind.text):
                checked = Rejection("known without the document", blind.text[:SHOWN_CHARS], question, checked.answer)
        if isinstance(checked, Turn):
            attempt.turns.append(checked)
            if len(attempt.turns) == settings.turns:
                return
        else:
            attempt.rejected_turns.append(checked)
    last = attempt.rejected_turns[-1] if attempt.rejected_turns else Rejection("questions: none left")
    if settings.turns > 1 and attempt.turns:
        last = Rejection("too few turns", f"{len(attempt.turns)} of {settings.turns}; {last.reason}")
    _fail(attempt, last)


def _answer_call(attempt: Attempt, question: str, settings: DataSettings) -> Request:
    earlier = conversation(attempt, reasoning=False)
    if earlier:
        asked = _user(follow_up_request(question, attempt.language))
    else:
        asked = _user(answer_request(attempt.document.text, question, attempt.language))
    return Request(
        messages=(*earlier, asked),
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.answer_temperature,
        seed=int(random_for(settings.seed, "answer", attempt.document.id, question).integers(2**31)),
        shared_prefix_characters=len(attempt.document.text),
    )


def check_answer(
    attempt: Attempt, question: str, outcome: Outcome, passages: Passages, settings: DataSettings
) -> Turn | Rejection:
    """An answer that is data, with its evidence, or why it is none."""
    if isinstance(outcome, Failure):
        return Rejection(f"answer: {outcome.kind}", outcome.message, question, outcome.text)
    answer = outcome.text.strip()
    if fault := answer_fault(answer, question, attempt.document.language):
        return Rejection(fault, question=question, answer=answer)
    support, evidence = passages.support(answer, frozenset(words(question)))
    if support < settings.min_support or not evidence:
        return Rejection("not supported by the document", f"support {support:.2f}", question, answer)
    if attempt.task == "extraction" and (number := unsupported_number(answer, attempt.document.text, question)):
        return Rejection("number not in the document", number, question, answer)
    return Turn(question, answer, evidence, support, outcome.reasoning if settings.keep_reasoning else "")


def _fail(attempt: Attempt, rejection: Rejection) -> Attempt:
    attempt.rejection = rejection
    attempt.over_budget = rejection.reason.endswith("over_budget")
    return attempt


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}
