"""Ingredient `closed_book`: an answer that the model also gives without the document teaches nothing about reading."""

from __future__ import annotations

from longalign.config import DataSettings
from longalign.data.attempt import Attempt, Rejection, Step, Turn, ask, user
from longalign.data.verify import alike
from longalign.llm.base import Request
from longalign.llm.prompt import closed_book_request

SHOWN_CHARS = 400


def closed_book(attempt: Attempt, turn: Turn, settings: DataSettings) -> Step[Turn | Rejection]:
    """One call, without the document. Rejects: "known without the document"."""
    blind = yield from ask(
        attempt,
        "closed book",
        Request(
            messages=(user(closed_book_request(turn.question, attempt.language)),),
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.answer_temperature,
            seed=settings.seed,
        ),
    )
    if alike(turn.answer, blind.text):
        return Rejection("known without the document", blind.text[:SHOWN_CHARS], turn.question, turn.answer)
    return turn
