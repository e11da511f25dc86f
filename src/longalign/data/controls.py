"""The control tokens of a tokenizer: those that are never made from ordinary text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

MARK = r"<[^<>\s]{1,60}>|\[/?[A-Z_]{2,40}\]"
"""What control tokens of chat templates look like: `<|end|>`, `</s>`, `[INST]`."""


@dataclass(frozen=True)
class Controls:
    """special: texts of the special tokens. added: theirs and those of all tokens that were added to the vocabulary.

    odd: the added ones that do not look like a mark, as a pattern, or None.
    """

    special: frozenset[str]
    added: frozenset[str]
    special_ids: frozenset[int]
    added_ids: frozenset[int]
    odd: re.Pattern[str] | None

    def spelled(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the texts of special tokens stand in `text`: [start, end), without overlap, in order."""
        end = 0
        for match in self._candidates(text):
            if match[0] in self.special and match.start() >= end:
                end = match.end()
                yield match.start(), end

    def _candidates(self, text: str) -> Iterator[re.Match[str]]:
        marks = re.finditer(MARK, text)
        if self.odd is None:
            return marks
        return iter(sorted([*marks, *self.odd.finditer(text)], key=lambda match: match.start()))


def controls_of(tokenizer: Any) -> Controls:
    """Those of a tokenizer. Read once, since some have thousands; again when tokens were added."""
    return _read(tokenizer, len(tokenizer), str(tokenizer.special_tokens_map))


@lru_cache(maxsize=8)
def _read(tokenizer: Any, size: int, names: str) -> Controls:
    added = {int(number): token for number, token in tokenizer.added_tokens_decoder.items()}
    always = set(map(str, tokenizer.all_special_tokens))
    special = frozenset(str(token) for token in added.values() if token.special) | always
    every = frozenset(map(str, added.values())) | always
    odd = sorted((text for text in every if text.strip() and not re.fullmatch(MARK, text)), key=len, reverse=True)
    return Controls(
        frozenset(text for text in special if text.strip()),
        frozenset(text for text in every if text.strip()),
        frozenset(tokenizer.all_special_ids) | {number for number, token in added.items() if token.special},
        frozenset(tokenizer.all_special_ids) | frozenset(added),
        re.compile("|".join(map(re.escape, odd))) if odd else None,
    )
