"""One row from one document: the model writes questions, some are drawn, each is answered and checked (section 3.1).

`make_row` is a dialogue (`longalign.llm.dialogue`): it yields requests and is sent outcomes, and knows nothing of
endpoints, money or files. Every draw is keyed by document and pass, so order and concurrency change nothing.

    questions -> draw -> for each: answer -> lexical checks -> closed book -> parts alone -> checker

Each ingredient is a step in a file of its own, on where its setting says so; with none of them the dialogue is the
paper's.
"""

from __future__ import annotations

from dataclasses import replace

from longalign.base.files import random_for
from longalign.config import DataSettings
from longalign.core.text import words
from longalign.data.attempt import Attempt, Companion, OverBudgetError, Rejection, Step, Turn, ask, fail, user
from longalign.data.attempt_row import conversation, row_id, row_of
from longalign.data.balance import order_of
from longalign.data.check_answer import check_answer
from longalign.data.check_closed_book import closed_book
from longalign.data.check_multi_hop import multi_hop, relabel
from longalign.data.documents import Document
from longalign.data.question_wishes import with_wishes
from longalign.data.several_documents import about_all, join
from longalign.data.unanswerable import is_unanswerable, refusal_row
from longalign.data.verify import Passages, answer_fault, question_fault, unknown_name, unsupported_number
from longalign.llm.base import Failure, Outcome, Request
from longalign.llm.check_prompts import write
from longalign.llm.numbered import numbered_items
from longalign.llm.prompt import (
    Task,
    answer_request,
    follow_up_request,
    questions_request,
    wording_for,
)
from longalign.llm.question_list import questions_in

__all__ = ["Attempt", "Rejection", "Turn", "conversation", "draw_task", "make_row", "row_id", "row_of"]

QUESTION_TOKENS = 128


def draw_task(document_id: str, number: int, settings: DataSettings) -> tuple[Task, int]:
    """(task type, how many earlier passes had it) of a document's pass: all types once before any comes again."""
    order = random_for(settings.seed, "task", document_id).permutation(len(settings.tasks))
    tasks = [settings.tasks[int(order[position % len(order)])] for position in range(number + 1)]
    return tasks[-1], tasks[:-1].count(tasks[-1])


def make_row(
    document: Document,
    number: int,
    settings: DataSettings,
    other: Companion | None = None,
    together: tuple[Companion, ...] = (),
) -> Step[Attempt]:
    """The dialogue of one candidate: pass `number` over a document.

    other: a similar document, for the passes that ask what the document does not say (`unanswerable.is_unanswerable`).
    together: documents that the row's questions are about as well.
    """
    if not together:
        return (yield from _make_row(document, number, settings, other))
    placed = Attempt(document, "general", wording_for(document.language, settings.prompts))
    joint = join(placed, together, settings, number)
    attempt = yield from _make_row(joint, number, settings, None, placed)
    return replace(attempt, document=document, before=placed.before, after=placed.after, together=True)


def _make_row(
    document: Document,
    number: int,
    settings: DataSettings,
    other: Companion | None,
    placed: Attempt | None = None,
) -> Step[Attempt]:
    task, earlier = draw_task(document.id, number, settings)
    attempt = Attempt(document, task, wording_for(document.language, settings.prompts))
    step = "questions"
    try:
        # A later pass of the same type takes the questions left over by the first, or asks for new ones.
        call, used = divmod(earlier, max(1, settings.questions_per_call // settings.turns))
        unanswerable = is_unanswerable(document.id, number, settings)
        if unanswerable and other is None:
            return fail(attempt, Rejection("no other document"))
        about = other.document if unanswerable and other is not None else document
        questions = yield from _ask_questions(attempt, about, call, settings, placed)
        if attempt.rejection is not None:
            return attempt
        step = "answer"
        if unanswerable:
            order = random_for(settings.seed, "question", document.id, number).permutation(len(questions))
            return (yield from refusal_row(attempt, [questions[int(place)] for place in order], settings))
        passages = Passages(document.text) if settings.balance_evidence else None
        drawn = order_of(questions, attempt, passages, settings, call, used)
        yield from _answer_questions(attempt, drawn, passages, settings)
    except OverBudgetError as error:
        return fail(attempt, Rejection(f"{step}: over_budget", str(error)))
    if settings.multi_hop == "relabel":
        relabel(attempt)
    return attempt


def _ask_questions(
    attempt: Attempt, about: Document, call: int, settings: DataSettings, placed: Attempt | None
) -> Step[list[str]]:
    """Usable questions about a document; without any the attempt has its rejection. placed: documents to compare."""
    # Of another document's questions the key names both: two candidates under way never send the very same request.
    key: tuple[str | int, ...] = (
        about.id,
        attempt.task,
        call,
        *([attempt.document.id] if about is not attempt.document else []),
    )
    text = questions_request(about.text, attempt.task, settings.questions_per_call, attempt.language)
    if placed is not None:
        text = about_all(text, placed)
    outcome = yield from ask(
        attempt,
        "questions",
        Request(
            messages=(user(with_wishes(text, settings, attempt.language, *key)),),
            max_new_tokens=settings.max_question_tokens or QUESTION_TOKENS * settings.questions_per_call,
            temperature=settings.question_temperature,
            seed=int(random_for(settings.seed, "questions", *key).integers(2**31)),
            shared_prefix_characters=len(about.text),
        ),
    )
    attempt.model = outcome.model
    items = questions_in(outcome, count=settings.questions_per_call)
    if isinstance(outcome, Failure) and not items:
        fail(attempt, Rejection(f"questions: {outcome.kind}", outcome.message, answer=outcome.text))
        return []
    questions = _usable_questions(items, about.text, attempt)
    if not questions:
        reason = "questions: none usable" if attempt.rejected_turns else "questions: no numbered list"
        fail(attempt, Rejection(reason, answer=outcome.text))
    return questions


def _usable_questions(items: list[str], document: str, attempt: Attempt) -> list[str]:
    usable = []
    for item in items:
        if fault := question_fault(item, attempt.document.language):
            attempt.rejected_turns.append(Rejection(fault, question=item))
        elif name := unknown_name(item, document):
            attempt.rejected_turns.append(Rejection("question names what the document lacks", name, item))
        else:
            usable.append(item)
    return usable


def _answer_questions(
    attempt: Attempt, drawn: list[str], passages: Passages | None, settings: DataSettings
) -> Step[None]:
    """Answer questions until the row has its turns; spare ones stand in where more than one turn is wanted.

    With one turn the first failure rejects the candidate: another document is the better spare.
    """
    waiting = drawn[:1] if settings.turns == 1 else list(drawn)
    follows = settings.follow_up_questions and settings.turns > 1
    while waiting:
        question = waiting.pop(0)
        outcome = yield from ask(attempt, "answers", _answer_call(attempt, question, settings))
        passages = passages or Passages(attempt.document.text)
        checked = read_answer(attempt, question, outcome, passages, settings)
        if isinstance(checked, Turn):
            checked = yield from _check(attempt, checked, passages, settings)
        if isinstance(checked, Turn):
            attempt.turns.append(checked)
            if len(attempt.turns) == settings.turns:
                return
            if follows:
                waiting = (yield from _follow_ups(attempt, settings)) + waiting
        else:
            attempt.rejected_turns.append(checked)
    last = attempt.rejected_turns[-1] if attempt.rejected_turns else Rejection("questions: none left")
    if settings.turns > 1 and attempt.turns:
        last = Rejection("too few turns", f"{len(attempt.turns)} of {settings.turns}; {last.reason}")
    fail(attempt, last)


def _check(attempt: Attempt, turn: Turn, passages: Passages, settings: DataSettings) -> Step[Turn | Rejection]:
    """The turn after every check that is on, cheap ones first; the first that rejects it ends the chain."""
    checked: Turn | Rejection = turn
    if settings.closed_book:
        checked = yield from closed_book(attempt, turn, settings)
    if settings.multi_hop != "off" and isinstance(checked, Turn):
        checked = yield from multi_hop(attempt, checked, passages, settings)
    if settings.check_answers and isinstance(checked, Turn):
        checked = yield from check_answer(attempt, checked, settings)
    return checked


def _follow_ups(attempt: Attempt, settings: DataSettings) -> Step[list[str]]:
    """What a reader would ask next, after the conversation so far: one question, none where the call fails."""
    outcome = yield from ask(
        attempt,
        "questions",
        Request(
            messages=(
                *conversation(attempt, reasoning=False, alone=True),
                user(write("follow_up", attempt.language, count=str(settings.questions_per_call))),
            ),
            max_new_tokens=settings.max_question_tokens or QUESTION_TOKENS * settings.questions_per_call,
            temperature=settings.question_temperature,
            seed=int(random_for(settings.seed, "follow up", row_id(attempt)).integers(2**31)),
            shared_prefix_characters=len(attempt.document.text),
        ),
    )
    if isinstance(outcome, Failure):
        return []
    asked = {turn.question for turn in attempt.turns}
    items = numbered_items(outcome.text, limit=settings.questions_per_call)
    found = _usable_questions(items, attempt.document.text, attempt)
    fresh = [question for question in found if question not in asked]
    order = random_for(settings.seed, "follow up drawn", row_id(attempt)).permutation(len(fresh))
    return [fresh[int(place)] for place in order[:1]]


def _answer_call(attempt: Attempt, question: str, settings: DataSettings) -> Request:
    earlier = conversation(attempt, reasoning=False, alone=True)
    if earlier:
        asked = user(follow_up_request(question, attempt.language))
    else:
        asked = user(answer_request(attempt.document.text, question, attempt.language))
    return Request(
        messages=(*earlier, asked),
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.answer_temperature,
        seed=int(random_for(settings.seed, "answer", attempt.document.id, question).integers(2**31)),
        shared_prefix_characters=len(attempt.document.text),
    )


def read_answer(
    attempt: Attempt, question: str, outcome: Outcome, passages: Passages, settings: DataSettings
) -> Turn | Rejection:
    """An answer that is data as far as words tell, with its evidence, or why it is none."""
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
