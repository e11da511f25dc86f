"""Which question of a list is answered, so that evidence spreads evenly over documents.

Models ask mostly about beginnings. Here each candidate is given a depth by seed, uniform from start to end, and of its
questions the one is drawn whose likeliest evidence lies nearest. Pure: no candidate knows of another, so neither order
nor concurrency changes a draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from longalign.base.files import random_for
from longalign.config import DataSettings
from longalign.core.text import words
from longalign.data.attempt import Attempt
from longalign.data.verify import Passages

TENTHS = 10


def order_of(
    questions: Sequence[str], attempt: Attempt, passages: Passages | None, settings: DataSettings, call: int, used: int
) -> list[str]:
    """The questions to answer, the one to take first in front; what `used` earlier passes over this list took is left
    out. `passages`: to balance; None draws at random (the paper)."""
    key = (attempt.document.id, attempt.task, call)
    order = random_for(settings.seed, "question", *key).permutation(len(questions))
    left = [questions[int(place)] for place in order]
    if passages is None:
        return left[used * settings.turns :]
    where = {question: likely_position(question, passages) for question in left}
    for earlier in range(used + 1):
        depth = float(random_for(settings.seed, "depth", *key, earlier).random())
        left.sort(key=lambda question: abs(where[question] - depth))  # stable: ties keep the drawn order
        if earlier < used:
            left = left[settings.turns :]
    return left


def likely_position(question: str, passages: Passages) -> float:
    """Where the sentence lies that shares most with a question, 0 start to 1 end; the middle if none does."""
    gains: dict[int, float] = {}
    for word in dict.fromkeys(words(question)):  # in order: sums of floats must not depend on a set's order
        for index in passages.places(word).tolist():
            gains[index] = gains.get(index, 0.0) + passages.weight(word)
    if not gains:
        return 0.5
    return passages.evidence(min(gains, key=lambda index: (-gains[index], index))).position


def imbalance(counts: Sequence[int]) -> float | None:
    """How far evidence is from an even spread over tenths: the share that would have to move, 0 to 0.9."""
    total = sum(counts)
    if not total:
        return None
    share = np.asarray(counts, dtype=float) / total
    return round(float(np.abs(share - 1 / len(counts)).sum() / 2), 4)
