"""Scoring a needle answer exactly, name and value apart.

A model tuned on short rows only may still find the value but no longer restate the name beyond the lengths it
was tuned on; one number would hide which of the two was lost.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from longalign.data.facts import Fact

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class NeedleScore:
    """What an answer got right. Shares are over the words of name and value, by position in the full answer."""

    name: bool
    value: bool
    exact: bool
    name_words: float
    value_words: float


def score_needle(answer: str, needle: Fact, others: Sequence[Fact] = ()) -> NeedleScore:
    """`value` is right if the needle's value is given and no other entry's: listing all of them is no retrieval."""
    said = words(answer)
    full = words(needle.sentence)
    name, value = words(needle.name), words(needle.value)
    prefix = full[: len(full) - len(name) - len(value)]
    body = said[len(prefix) :] if said[: len(prefix)] == prefix else said
    wrong = any(_occurs(words(other.value), said, needle.language) for other in others if other.value != needle.value)
    return NeedleScore(
        name=_occurs(name, said, needle.language),
        value=_occurs(value, said, needle.language) and not wrong,
        exact=said == full,
        name_words=_matches(body[: len(name)], name),
        value_words=_matches(body[len(name) :], value),
    )


def words(text: str) -> list[str]:
    """Words without case, punctuation and width variants."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _occurs(part: list[str], whole: list[str], language: str) -> bool:
    if language == "zh":  # spaces between Chinese words carry nothing
        return "".join(part) in "".join(whole)
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def _matches(said: list[str], wanted: list[str]) -> float:
    return sum(a == b for a, b in zip(said, wanted, strict=False)) / len(wanted)
