"""The row of an accepted candidate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from longalign.base.files import fingerprint
from longalign.config import DataSettings
from longalign.data.attempt import Attempt, user
from longalign.data.documents import Document
from longalign.llm.check_prompts import checks_hash, document_heading
from longalign.llm.prompt import GAP, prompt_hash, row_message


def row_of(attempt: Attempt, settings: DataSettings | None = None) -> dict[str, Any]:
    """The row of an accepted candidate, as it is written; columns of ingredients only where those are on."""
    document = attempt.document
    text, shift = shown_text(attempt)
    shift = 0 if attempt.together else shift
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
            {"turn": number, "text": e.text, "start": e.start + shift, "end": e.end + shift}
            | {
                "position": e.position
                if text is document.text
                else round(((e.start + e.end) / 2 + shift) / len(text), 4)
            }
            for number, turn in enumerate(attempt.turns)
            for e in turn.evidence
        ],
        "support": [None if turn.support is None else round(turn.support, 4) for turn in attempt.turns],
        "model": attempt.model,
        "prompt": prompt_hash(attempt.language),
        **dict(_columns(attempt, settings)),
    }


def _columns(attempt: Attempt, settings: DataSettings | None) -> Iterator[tuple[str, Any]]:
    """What ingredients add, for every row of a build alike."""
    if settings is None or settings.plain:
        return
    yield "ingredients", list(settings.ingredients)
    yield "ingredients_prompt", checks_hash(attempt.language)
    if settings.multi_hop != "off":
        yield "hops", [turn.hops for turn in attempt.turns]
    if settings.check_answers:
        yield "checks", [None if turn.checks is None else dict(turn.checks) for turn in attempt.turns]
        yield "checked_by", attempt.checked_by
        if settings.scores:
            yield "scores", [None if turn.scores is None else dict(turn.scores) for turn in attempt.turns]
    if settings.distractors or settings.documents_per_row > 1:
        before, after = ([c.document.id for c in side] for side in (attempt.before, attempt.after))
        yield "documents", [*before, attempt.document.id, *after]
    if settings.unanswerable_share:
        yield "answerable", attempt.answerable


def row_id(attempt: Attempt) -> str:
    """Content key of a row."""
    pairs = [(turn.question, turn.answer) for turn in attempt.turns]
    others = [companion.document.id for companion in attempt.companions]
    return fingerprint(attempt.document.id, attempt.task, pairs, *([others] if others else []))[:16]


def conversation(attempt: Attempt, *, reasoning: bool = True, alone: bool = False) -> list[dict[str, str]]:
    """The messages of a row: documents and first question together, further questions alone. `reasoning`: with what the
    model thought before an answer, where that was kept; no model is sent its earlier thoughts. `alone`: the document
    without those around it, as the model that answers sees it."""
    messages: list[dict[str, str]] = []
    text = attempt.document.text if alone else shown_text(attempt)[0]
    for number, turn in enumerate(attempt.turns):
        asked = turn.question if number else row_message(text, turn.question)
        thoughts = {"reasoning_content": turn.reasoning} if turn.reasoning and reasoning else {}
        messages += [user(asked), {"role": "assistant", **thoughts, "content": turn.answer}]
    return messages


def shown_text(attempt: Attempt) -> tuple[str, int]:
    """(the text of all documents of a row, characters before its own document).

    Several documents are numbered and named, each under a line of its own.
    """
    if not attempt.companions:
        return attempt.document.text, 0
    documents = [*(c.document for c in attempt.before), attempt.document, *(c.document for c in attempt.after)]
    parts = [f"{heading(attempt, place)}{GAP}{document.text}" for place, document in enumerate(documents)]
    own = len(attempt.before)
    shift = sum(len(part) + len(GAP) for part in parts[:own]) + len(parts[own]) - len(attempt.document.text)
    return GAP.join(parts), shift


def heading(attempt: Attempt, place: int) -> str:
    """The line above the row's document at `place`, from 0."""
    documents: list[Document] = [
        *(c.document for c in attempt.before),
        attempt.document,
        *(c.document for c in attempt.after),
    ]
    return document_heading(place + 1, documents[place].title, attempt.language)
