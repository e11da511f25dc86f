"""Words, sentences and language of English and Chinese text, for lexical matching. No model, no download.

`detect_language` goes by the share of scripts among the letters: `zh` for Han without kana, `en` for any Latin script,
`other` for everything else. `longalign.data.language` tells the languages of one script apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_letters
from typing import Literal

WORD = re.compile(r"[㐀-䶿一-鿿]+|[^\W_㐀-䶿一-鿿]+(?:['’.-][^\W_㐀-䶿一-鿿]+)*", re.UNICODE)
# A line break ends a sentence unless the next line goes on in lower case (text wrapped at a fixed width).
# The one class in front lets the search pass quickly over all other characters.
BREAK = re.compile(
    r"[.!?。！？；\n](?:(?<=[.!?])[\"'”’)\]]*\s+|(?<=[。！？；])[”’」』）]*|(?<=\n)\s*\n|(?<=\n)(?![ \t]*[a-z]))"
)
LOOSE_MARK = re.compile(r"['.-](?:(?![a-z0-9])|(?<![a-z0-9].))")
"""A mark that joins no two words, in lower-cased ASCII."""
NO_WORD = {n: " " for n in range(1, 128) if not chr(n).isalnum() and chr(n) not in "'.-"}
LONGEST_SENTENCE_CHARS = 400
CHARACTERS_PER_TOKEN = 4
"""About what a token of Latin script has, where no tokenizer is at hand: an estimate for plans and for placing text
before an endpoint, said to be one wherever it shows, and never used for what is trained or scored."""


@dataclass(frozen=True)
class Sentence:
    """A stretch of a text, [start, end) in characters, without surrounding white space."""

    start: int
    end: int
    text: str


def words(text: str) -> list[str]:
    """Lower-cased words; a run of Han characters gives its overlapping pairs (one character stays one)."""
    if text.isascii():  # the same, ten times as fast
        return _spaced(text).replace("\0", " ").split()
    found: list[str] = []
    for match in WORD.finditer(text):
        word = match[0].lower()
        if word[0] < "㐀" or len(word) == 1 or not ("㐀" <= word[0] <= "鿿"):
            found.append(word)
        else:
            found.extend(word[i : i + 2] for i in range(len(word) - 1))
    return found


def bags_of_words(texts: Sequence[str]) -> list[frozenset[str]]:
    """The different words of each text."""
    joined = "\0".join(texts)
    if joined.isascii() and joined.count("\0") == len(texts) - 1:
        return [frozenset(line.split()) for line in _spaced(joined).split("\0")]
    return [frozenset(words(text)) for text in texts]


def _spaced(text: str) -> str:
    """The words of a plain ASCII text with white space between; NUL stays."""
    text = text.lower()
    for end in (". ", ".\n", ".\0"):  # most loose marks, found faster than by the pattern
        text = text.replace(end, " " + end[1])
    return LOOSE_MARK.sub(" ", text).translate(NO_WORD)


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text in order; very long ones (tables, code) are cut at white space."""
    found: list[Sentence] = []
    start = 0
    breaks = ((match.start() + (match[0][0] != "\n"), match.end()) for match in BREAK.finditer(text))
    for end, following in [*breaks, (len(text), len(text))]:
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


Language = Literal["en", "zh", "other"]
SAMPLE_CHARS = 20_000
HAN = re.compile(r"[㐀-䶿一-鿿]")
KANA = re.compile(r"[぀-ヿ]")
LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
LETTER = re.compile(r"[^\W\d_]")
ASCII_LETTERS = ascii_letters.encode()
ASCII = re.compile(r"[\x00-\x7f]+")


def language_sample(text: str) -> str:
    """The first, middle and last part of a text, by which its language is judged."""
    third = SAMPLE_CHARS // 3
    if len(text) <= SAMPLE_CHARS:
        return text
    middle = len(text) // 2
    return text[:third] + text[middle : middle + third] + text[-third:]


def detect_language(text: str) -> Language:
    """The language of a text by its script, judged on its first, middle and last part."""
    text = language_sample(text)
    ascii_text = text.encode("ascii", "ignore")  # most of most texts: its letters are counted without a list of them
    plain, rest = len(ascii_text) - len(ascii_text.translate(None, ASCII_LETTERS)), ASCII.sub("", text)
    han, kana, latin = (len(pattern.findall(rest)) for pattern in (HAN, KANA, LATIN))
    latin, letters = latin + plain, len(LETTER.findall(rest)) + plain
    if not letters:
        return "other"
    if kana > 0.1 * (han + kana):
        return "other"
    # A Han character carries about as much as three Latin letters, so mixed technical Chinese counts as Chinese.
    if han * 3 >= latin and han * 3 >= 0.5 * letters:
        return "zh"
    return "en" if latin >= 0.5 * letters else "other"
