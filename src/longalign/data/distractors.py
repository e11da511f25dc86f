"""Ingredient `distractors`: other documents around the right one, so that it must be found first (LongMagpie).

Question and answer are made from the right document alone, so distractors cost no call. How many (0 to `distractors`)
and in which order is drawn by seed. A document that supports the answer about as well is no distractor, and one that
does not fit into the row is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence

from longalign.base.files import random_for
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.core.text import words
from longalign.data.attempt import Attempt, Companion
from longalign.data.several_documents import HEADING_TOKENS, companion_tokens, place_around
from longalign.data.verify import Passages

ANSWERS_TOO = 0.8


def surround(
    attempt: Attempt, others: Sequence[Companion], settings: DataSettings, number: int, counter: TokenCounter
) -> None:
    """Put distractors around the document of an accepted attempt whose length is known, and add theirs.

    others: the candidates, best first. Evidence is shifted where the row is written.
    """
    rng = random_for(settings.seed, "distractors", attempt.document.id, number)
    wanted = int(rng.integers(settings.distractors + 1))
    room = settings.max_length_tokens - attempt.length_tokens - HEADING_TOKENS
    chosen: list[Companion] = []
    for other in others:
        if len(chosen) == wanted:
            break
        if other.length_tokens + HEADING_TOKENS <= room and not _answers_too(attempt, other):
            room -= other.length_tokens + HEADING_TOKENS
            chosen.append(other)
    if not chosen:
        return
    place_around(attempt, chosen, settings, "distractors around", attempt.document.id, number)
    attempt.length_tokens += companion_tokens(attempt, counter)


def _answers_too(attempt: Attempt, other: Companion) -> bool:
    """Whether the other document supports an answer about as well as the right one."""
    if other.document.id == attempt.document.id:
        return True
    passages = Passages(other.document.text)
    for turn in attempt.turns:
        support, _ = passages.support(turn.answer, frozenset(words(turn.question)))
        if (
            turn.support
            and support >= ANSWERS_TOO * turn.support
            and set(words(turn.answer)) - set(words(turn.question))
        ):
            return True
    return False
