"""Ingredient `documents_per_row`: questions about several similar documents together, which need at least two of them.

The documents are numbered and titled and put in an order drawn by seed; their joint text is the document that is asked
about, answered from and checked against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from longalign.base.files import random_for
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.attempt import Attempt, Companion
from longalign.data.attempt_row import heading, shown_text
from longalign.data.documents import Document
from longalign.llm.check_prompts import write
from longalign.llm.prompt import GAP

HEADING_TOKENS = 60
"""The most that the line above a document is taken to need when it is drawn; then its tokens are counted."""


def place_around(attempt: Attempt, chosen: Sequence[Companion], settings: DataSettings, *key: str | int) -> None:
    """Put documents around the attempt's own, in an order that the key draws."""
    rng = random_for(settings.seed, *key)
    order = [chosen[int(place)] for place in rng.permutation(len(chosen))]
    place = int(rng.integers(len(order) + 1))
    attempt.before, attempt.after = tuple(order[:place]), tuple(order[place:])


def join(attempt: Attempt, others: Sequence[Companion], settings: DataSettings, number: int) -> Document:
    """The joint document of a candidate that is about to be asked; its id stays. Places the others in the attempt."""
    place_around(attempt, others, settings, "together", attempt.document.id, number)
    attempt.together = True
    return replace(attempt.document, text=shown_text(attempt)[0])


def about_all(request: str, attempt: Attempt) -> str:
    """The call for questions, with what questions about several documents must be."""
    if not attempt.together:
        return request
    return write("compare", attempt.language, before=request, documents=str(1 + len(attempt.companions)))


def companion_tokens(attempt: Attempt, counter: TokenCounter) -> int:
    """Tokens of the other documents of a row and of the lines above all of them, counted apart."""
    if not attempt.companions:
        return 0
    headings = [GAP + heading(attempt, place) + GAP for place in range(1 + len(attempt.companions))]
    return sum(other.length_tokens for other in attempt.companions) + sum(counter.counts(headings))
