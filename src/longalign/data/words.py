"""Words and sentences of English and Chinese text, for lexical matching."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

WORD = re.compile(r"[㐀-䶿一-鿿]+|[^\W_㐀-䶿一-鿿]+(?:['’.-][^\W_㐀-䶿一-鿿]+)*", re.UNICODE)
# A line break ends a sentence unless the next line goes on in lower case (text wrapped at a fixed width).
BREAK = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+|(?<=[。！？；])[”’」』）]*|\n\s*\n|\n(?![ \t]*[a-z])")
LONGEST_SENTENCE_CHARS = 400


@dataclass(frozen=True)
class Sentence:
    """A stretch of a text, [start, end) in characters, without surrounding white space."""

    start: int
    end: int
    text: str


def words(text: str) -> list[str]:
    """Lower-cased words; a run of Han characters gives its overlapping pairs (one character stays one)."""
    found: list[str] = []
    for match in WORD.finditer(text):
        word = match[0].lower()
        if word[0] < "㐀" or len(word) == 1 or not ("㐀" <= word[0] <= "鿿"):
            found.append(word)
        else:
            found.extend(word[i : i + 2] for i in range(len(word) - 1))
    return found


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text in order; very long ones (tables, code) are cut at white space."""
    found: list[Sentence] = []
    start = 0
    for end, following in [*((match.start(), match.end()) for match in BREAK.finditer(text)), (len(text), len(text))]:
        while end - start > LONGEST_SENTENCE_CHARS:
            cut = text.rfind(" ", start + LONGEST_SENTENCE_CHARS // 2, start + LONGEST_SENTENCE_CHARS)
            cut = cut if cut > 0 else start + LONGEST_SENTENCE_CHARS
            _add(found, text, start, cut)
            start = cut
        _add(found, text, start, end)
        start = following
    return found


def token_f1(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over word counts; 0 when either is empty."""
    if not answer or not reference:
        return 0.0
    common = sum((Counter(answer) & Counter(reference)).values())
    return 2 * common / (len(answer) + len(reference))


def _add(found: list[Sentence], text: str, start: int, end: int) -> None:
    body = text[start:end]
    stripped = body.strip()
    if stripped:
        begin = start + len(body) - len(body.lstrip())
        found.append(Sentence(begin, begin + len(stripped), stripped))
