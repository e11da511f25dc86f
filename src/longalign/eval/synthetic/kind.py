"""What a kind of question is: a way to make one for a length, by planting sentences or by listing items.

The law of difficulty: a prompt of T tokens holds `others(T)` facts beside the ones asked for, chains of `steps(T)`
links, and counts up to `many(T)`. So longer prompts are not just longer, and the law is the same for every model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from longalign.bundled.register import Language
from longalign.eval.haystack import Plant
from longalign.eval.synthetic.challenge import Challenge


@dataclass(frozen=True)
class Draw:
    """Where the random choices of one question come from."""

    rng: np.random.Generator
    language: Language

    def depths(self, count: int) -> list[float]:
        """Depths anywhere in the text."""
        return [float(depth) for depth in self.rng.random(count)]

    def rising(self, count: int) -> list[float]:
        """Depths in order, one in each equal part of the text."""
        return [(part + 0.1 + 0.8 * float(self.rng.random())) / count for part in range(count)]

    def plants(self, sentences: list[str]) -> tuple[Plant, ...]:
        """Sentences at depths anywhere."""
        return tuple(Plant(text, depth) for text, depth in zip(sentences, self.depths(len(sentences)), strict=True))


@dataclass(frozen=True)
class Planted:
    """Real text with sentences in it: `make(draw, length_tokens)`."""

    make: Callable[[Draw, int], Challenge]
    max_new_tokens: int = 48


@dataclass(frozen=True)
class Listed:
    """A text made of items, as many as fit: `make(draw, items)`. The same draw with more items is another question."""

    make: Callable[[Draw, int], Challenge]
    fewest: int
    max_new_tokens: int = 48


Kind = Planted | Listed


def others(length_tokens: int) -> int:
    """Facts of the same form beside those asked for: 3, and one more for every 512 tokens."""
    return 3 + length_tokens // 512


def steps(length_tokens: int) -> int:
    """Links of a chain: 2, and one more each time the length doubles beyond 1,024 tokens."""
    return 2 + max(0, (length_tokens // 1024).bit_length() - 1)


def many(length_tokens: int) -> int:
    """The most that is to be counted or put in order: 3, and one more each time the length doubles beyond 512."""
    return 3 + max(0, (length_tokens // 512).bit_length() - 1)
