"""Register entries: small facts that can be planted in a text and asked for.

A fact is `NAME VALUE VALUE`, all words of one pool, the value directly after the name: the form in which
retrieval emerges in small models. A quarter of the pool is held out: its words are never a name or a value
in training rows, so a right answer in an evaluation cannot be remembered.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np

Language = Literal["en", "zh"]
Split = Literal["train", "heldout"]

HELDOUT_SHARE = 0.25
SENTENCE = {"en": "Register entry: {name} {value}.", "zh": "登记条目： {name} {value}。"}
QUESTION = {"en": "Which entry does the register hold for {name}?", "zh": "登记簿中 {name} 的条目是什么？"}
PATTERN = {
    "en": re.compile(r"Register entry: ([a-z]+) ([a-z]+(?: [a-z]+)*)\."),
    "zh": re.compile(r"登记条目： ?(\w+) (\w+(?: \w+)*)。"),
}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


@dataclass(frozen=True)
class Fact:
    """One register entry: `name` is asked for, `value` is the answer."""

    name: str
    value: str
    language: Language = "en"

    @property
    def sentence(self) -> str:
        """The entry as it stands in a document; also the full answer."""
        return SENTENCE[self.language].format(name=self.name, value=self.value)

    @property
    def question(self) -> str:
        """The question that the entry answers."""
        return QUESTION[self.language].format(name=self.name)


@cache
def word_pool(language: Language, split: Split) -> tuple[str, ...]:
    """The words of one split; the split of a word depends on the word alone."""
    words = files("longalign.data").joinpath(f"words.{language}.txt").read_text(encoding="utf-8").split()
    return tuple(word for word in words if _is_heldout(word) == (split == "heldout"))


def draw_facts(
    rng: np.random.Generator, count: int, *, split: Split, language: Language = "en", value_words: int = 2
) -> list[Fact]:
    """`count` facts whose words are all different."""
    pool = word_pool(language, split)
    size = 1 + value_words
    if count * size > len(pool):
        raise ValueError(f"{count} facts need {count * size} different words; the {split} pool has {len(pool)}")
    words = [pool[i] for i in rng.permutation(len(pool))[: count * size]]
    chunks = [words[i : i + size] for i in range(0, count * size, size)]
    return [Fact(chunk[0], " ".join(chunk[1:]), language) for chunk in chunks]


def find_facts(text: str) -> list[Fact]:
    """Every register entry in a text, in order, English and Chinese."""
    found: list[tuple[int, Fact]] = []
    for language in ("en", "zh"):
        for match in PATTERN[language].finditer(text):
            found.append((match.start(), Fact(match[1], match[2], language)))  # type: ignore[arg-type]
    return [fact for _, fact in sorted(found, key=lambda item: item[0])]


def sentence_starts(text: str) -> list[int]:
    """Character offsets at which a sentence may be put in without cutting one: the start, after each end."""
    return sorted({0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)})


def insert_facts(text: str, facts: Sequence[Fact], depths: Sequence[float]) -> str:
    """`text` with each fact's sentence at the sentence boundary nearest to its depth (0 start, 1 end)."""
    starts = np.array(sentence_starts(text))
    places = [int(starts[np.abs(starts - depth * len(text)).argmin()]) for depth in depths]
    out = text
    for place, fact in sorted(zip(places, facts, strict=True), key=lambda item: -item[0]):
        before, after = out[:place].rstrip(" "), out[place:].lstrip(" ")
        out = f"{before}{_gap(before)}{fact.sentence}{' ' if after else ''}{after}"
    return out


def _gap(before: str) -> str:
    return " " if before and not before.endswith("\n") else ""


def _is_heldout(word: str) -> bool:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) < HELDOUT_SHARE * 2**32
