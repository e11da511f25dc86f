"""Register entries: small facts that can be hidden in a text and asked about.

A name is two words, a value is two words, all from one pool, with the value directly after the name: the form in
which retrieval emerges in small models. A quarter of all word pairs is held out: such a pair is never a name
or a value in training rows, so a right answer in an evaluation cannot be remembered.
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

from longalign.errors import ConfigError

Language = Literal["en", "zh"]
Split = Literal["train", "heldout"]
HELDOUT_SHARE = 0.25
SENTENCE = {"en": "Register entry: {name} {value}.", "zh": "登记条目： {name} {value}。"}
QUESTION = {"en": "Which entry does the register hold for {name}?", "zh": "登记簿中 {name} 的条目是什么？"}
PATTERN = {
    "en": re.compile(r"Register entry: ([a-z]+ [a-z]+) ([a-z]+ [a-z]+)\."),
    "zh": re.compile(r"登记条目： ?(\w+ \w+) (\w+ \w+)。"),
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
def word_pool(language: Language) -> tuple[str, ...]:
    """The words that names and values are made of."""
    return tuple(files("longalign.bundled").joinpath(f"words.{language}.txt").read_text(encoding="utf-8").split())


def split_of(text: str) -> Split:
    """Whether a pair of words, or a question, may be used in training; depends on the text alone."""
    first_bytes = hashlib.sha256(text.encode()).digest()[:4]
    return "heldout" if int.from_bytes(first_bytes) < HELDOUT_SHARE * 2**32 else "train"


def draw_facts(rng: np.random.Generator, count: int, *, split: Split, language: Language = "en") -> list[Fact]:
    """`count` facts whose names and values belong to `split`; no two names or values are the same.

    Their words are all different, as long as the pool has enough; beyond that, entries may share single words.
    `ConfigError` where there are not even enough pairs of words.
    """
    pool = word_pool(language)
    for _ in range(100):  # a small pool gives too few pairs of one split in some orders
        order = [pool[i] for i in rng.permutation(len(pool))]
        pairs = [f"{a} {b}" for a, b in zip(order[::2], order[1::2], strict=False)]
        usable = [pair for pair in pairs if split_of(pair) == split]
        if 2 * count <= len(usable):
            return [Fact(name, value, language) for name, value in zip(usable[:count], usable[count:], strict=False)]
    usable = [pair for a in pool for b in pool if a != b and split_of(pair := f"{a} {b}") == split]
    if 2 * count > len(usable):
        raise ConfigError(
            f"{count} register entries at once need {2 * count:,} pairs of words and there are {len(usable):,}; "
            "use fewer distractors"
        )
    chosen = [usable[i] for i in rng.permutation(len(usable))[: 2 * count]]
    return [Fact(name, value, language) for name, value in zip(chosen[:count], chosen[count:], strict=True)]


def find_facts(text: str) -> list[Fact]:
    """Every register entry in a text, in order, English and Chinese."""
    found: list[tuple[int, Fact]] = []
    for language in ("en", "zh"):
        for match in PATTERN[language].finditer(text):
            found.append((match.start(), Fact(match[1], match[2], language)))
    return [fact for _, fact in sorted(found, key=lambda item: item[0])]


def sentence_starts(text: str) -> list[int]:
    """Character offsets at which a sentence may be put in without cutting one: the start, after each end."""
    return sorted({0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)})


def insert_facts(text: str, facts: Sequence[Fact], depths: Sequence[float]) -> str:
    """`text` with each fact's sentence at the sentence boundary nearest to its depth (0 start, 1 end)."""
    return insert_sentences(text, [fact.sentence for fact in facts], depths)


def insert_sentences(text: str, sentences: Sequence[str], depths: Sequence[float]) -> str:
    """`text` with each sentence at the sentence boundary nearest to its depth (0 start, 1 end)."""
    starts = np.array(sentence_starts(text))
    by_place: dict[int, list[str]] = {}
    for depth, sentence in zip(depths, sentences, strict=True):
        place = int(starts[np.abs(starts - depth * len(text)).argmin()])
        by_place.setdefault(place, []).append(sentence)
    pieces: list[str] = []
    last = 0
    for place in sorted(by_place):
        before = text[last:place].rstrip(" ")
        so_far = before or (pieces[-1] if pieces else "")
        pieces += [before, _gap(so_far), " ".join(by_place[place]), " "]
        last = place
    return ("".join(pieces) + text[last:].lstrip(" ")).rstrip(" ") if by_place else text


def _gap(before: str) -> str:
    return " " if before and not before.endswith("\n") else ""
