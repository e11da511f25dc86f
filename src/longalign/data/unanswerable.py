"""Ingredient `unanswerable_share`: what a document does not say, asked of it, and the answer that says so.

The question is one that a similar document answers, so it fits the subject. The checker must find that this document
leaves it open; then the model says what is not stated. The row carries `answerable: false` and no evidence.
"""

from __future__ import annotations

import re

from longalign.base.files import random_for
from longalign.config import DataSettings
from longalign.core.text import words
from longalign.data.attempt import Attempt, Rejection, Step, Turn, ask, fail, user
from longalign.data.verify import wrong_language
from longalign.llm.base import Failure, Request
from longalign.llm.check_prompts import write
from longalign.llm.team import CheckRequest
from longalign.llm.verdict import read_yes

NEGATION = {
    "en": r"\b(?:not?|nothing|neither|never|nowhere|without|lacks?|cannot)\b|n['’]t\b",
    "zh": r"没|未|无|不|非",
    "ja": r"ない|ません|なかった|ず|無",
    "ko": r"않|없|못|아니",
    "es": r"\b(?:no|ning[uú]n\w*|nada|nunca|tampoco|sin)\b",
    "fr": r"\b(?:pas|aucun\w*|rien|jamais|ni|sans)\b",
    "de": r"\b(?:nicht|kein\w*|nichts|nie|weder|ohne)\b",
    "ru": r"\b(?:не|нет|ни\w*|без)\b",
    "ar": r"لا|لم|ليس|لن|دون|غير",
}
"""Words that deny, by language; an answer in another language is not judged by them."""
LONGEST_REFUSAL_WORDS = 90


def is_unanswerable(document_id: str, number: int, settings: DataSettings) -> bool:
    """Whether this pass over this document asks what it does not say."""
    if not settings.unanswerable_share:
        return False
    return float(random_for(settings.seed, "unanswerable", document_id, number).random()) < settings.unanswerable_share


def refusal_row(attempt: Attempt, questions: list[str], settings: DataSettings) -> Step[Attempt]:
    """Two calls: is the question really open, and the answer. `questions`: those of the other document."""
    question = questions[0]
    text, language = attempt.document.text, attempt.language
    asked = yield from ask(
        attempt,
        "answerable?",
        CheckRequest(
            messages=(user(write("answerable", language, before=text, question=question)),),
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed,
            shared_prefix_characters=len(text),
        ),
    )
    if isinstance(asked, Failure):
        return fail(attempt, Rejection(f"answerable?: {asked.kind}", asked.message, question))
    if read_yes(asked.text, "answerable") is not False:
        return fail(attempt, Rejection("answerable after all", asked.text[:200], question))
    said = yield from ask(
        attempt,
        "refusal",
        Request(
            messages=(user(write("refuse", language, before=text, question=question)),),
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.answer_temperature,
            seed=int(random_for(settings.seed, "answer", attempt.document.id, question).integers(2**31)),
            shared_prefix_characters=len(text),
        ),
    )
    if isinstance(said, Failure):
        return fail(attempt, Rejection(f"answer: {said.kind}", said.message, question, said.text))
    answer = said.text.strip()
    if fault := refusal_fault(answer, attempt.document.language):
        return fail(attempt, Rejection("no refusal", fault, question, answer))
    attempt.answerable = False
    attempt.turns.append(Turn(question, answer, [], None, said.reasoning if settings.keep_reasoning else ""))
    return attempt


def refusal_fault(answer: str, language: str) -> str | None:
    """Why a text does not say plainly that something is not stated."""
    count = len(words(answer))
    if not count:
        return "empty"
    if count > LONGEST_REFUSAL_WORDS:
        return f"{count} words, more than a refusal needs"
    if wrong_language(answer, language):
        return "in another language"
    if language in NEGATION and not re.search(NEGATION[language], answer, re.IGNORECASE):
        return "denies nothing"
    return None
