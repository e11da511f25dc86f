"""What makes a whole text worthless for questions: lost letters, a wrong charset, numbers, repetition, word lists.

Every measure is a share that does not depend on the length of the text, and none needs to know the language. Gopher's
and FineWeb's limits are for web pages of some hundred words; in long documents phrases return by nature, so repetition
is measured in windows and by long phrases.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from longalign.core.bad_stretches import in_order
from longalign.core.shingles import SHINGLE_WORDS, shingles_of, word_hashes

GLYPHS = tuple(
    re.compile(name)
    for name in (
        r"GLYPH<[^>\s]{1,20}>",
        r"GLYPH&lt;.{1,20}?&gt;",
        r"\(cid:\d+\)",
        r"(?:/(?:[gGcC]|uni)[0-9A-F]{1,4}){3,}",
    )
)
"""What PDF tools write for a glyph that they know no letter for."""
LOST = re.compile("[\ue000-\uf8ff\ufffd\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\U000f0000-\U0010ffff]")
WRONG_CHARSET = re.compile(
    "(?:[ÃÂ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ])+|â€[™œ\u009d“”¦˜\u0093\u0094]?|ï»¿|ï¿½|(?:[ÐÑ][\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹]){2,}"
)
DIGIT = re.compile(r"\d")
CONTROLS = bytes(code for code in (*range(32), 127) if chr(code) not in "\t\n\v\f\r\x1b")
WRONG_MARKS = ("Ã", "Â", "â€", "ï»¿", "ï¿½", "Ð", "Ñ")
LONG_TOKEN = 56
MISREAD = re.compile(r"[^\W\d_]*[a-zß-ÿа-я](?:[\^~¬§£°•»«;!|]+|[01568](?=[a-zа-я]))[a-zß-ÿа-я]\w*")
"""A word as text recognition leaves it: a sign or digit between small letters."""
SUSPECT = re.compile(r"[\^~¬§£°•»«;!|](?=[a-zß-ÿа-я])|[01568](?=[a-zа-я])")
MISREAD_TOKENS = 5000
LONGEST_MISREAD = 20
FEWEST_MISREAD = 8
MOST_MISREAD = 0.0075
UNDIVIDED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Scripts that do not divide words: Thai, Lao, Burmese, Khmer."""
ENDS = frozenset(".!?:;,。！？；：，、")
MOST = {
    "glyph names instead of letters": 0.05,
    "letters of a wrong charset": 0.01,
    "letters lost": 0.01,
    "data without words": 0.6,
}
"""Share of the characters."""
MOST_DIGITS = 0.5
WINDOW_WORDS = 500
FEWEST_WORDS = 100
LEAST_VARIETY = 0.06
MOST_VARIETY = 0.95
MOST_REPEATED = 0.85
MOST_LETTERS_APART = 0.5
MOST_IN_LIST = 0.9


@dataclass(frozen=True)
class Fault:
    """Why a text is rejected, and the figure that says so."""

    reason: str
    detail: str


def fault_of(text: str, *, code: bool = False) -> Fault | None:
    """The first fault of a text, or None. Source code may have signs inside its words."""
    tokens = text.split()
    signs = sum(map(len, tokens))
    return (
        _letters(text, tokens, signs)
        or _numbers(text, signs)
        or _repetition(text, tokens)
        or _list(text)
        or (None if code else _misread(tokens))
    )


def _letters(text: str, tokens: list[str], signs: int) -> Fault | None:
    bad = {
        "glyph names instead of letters": sum(_found(pattern, text) for pattern in GLYPHS),
        "letters of a wrong charset": _found(WRONG_CHARSET, text) if any(map(text.__contains__, WRONG_MARKS)) else 0,
        "letters lost": _lost(text),
        "data without words": sum(
            len(token)
            for token in tokens
            if len(token) >= LONG_TOKEN and token.isascii() and "://" not in token and len(set(token)) > 8
        ),
    }
    for reason, most in MOST.items():
        if bad[reason] > most * signs:
            return Fault(reason, f"{bad[reason] / signs:.0%} of its characters")
    return None


def _lost(text: str) -> int:
    if text.isascii():
        plain = text.encode()
        return len(plain) - len(plain.translate(None, CONTROLS))
    return _found(LOST, text)


def _found(pattern: re.Pattern[str], text: str) -> int:
    return sum(map(len, pattern.findall(text)))


def _numbers(text: str, signs: int) -> Fault | None:
    digits = sum(map(text.count, "0123456789"))
    if signs >= FEWEST_WORDS and digits > MOST_DIGITS * signs:
        return Fault("table of numbers", f"{digits / signs:.0%} digits")
    return None


def _repetition(text: str, tokens: list[str]) -> Fault | None:
    word_W = word_hashes(text)
    if len(word_W) < FEWEST_WORDS:
        return None
    different = variety(word_W)
    if different < LEAST_VARIETY:
        return Fault("repetition", f"{different:.0%} of its words are new")
    shingles = len(word_W) - SHINGLE_WORDS + 1
    repeated = 1 - len(shingles_of(word_W)) / shingles
    if repeated > MOST_REPEATED:
        return Fault("repetition", f"{repeated:.0%} of its phrases occur again")
    if different > MOST_VARIETY and len(word_W) >= WINDOW_WORDS and not UNDIVIDED.search(text):
        return Fault("no running text", f"{different:.0%} of its words are new")
    single = [token for token in tokens if len(token) == 1]
    apart = sum(token.isalpha() and token < "\u0250" for token in single)
    if apart > MOST_LETTERS_APART * len(tokens):
        return Fault("letters set apart", f"{apart / len(tokens):.0%} of its words are one letter")
    return None


def variety(word_W: np.ndarray) -> float:
    """Different words as a share of all, on average over windows of 500 words."""
    window = min(WINDOW_WORDS, len(word_W))
    windows = np.sort(word_W[: len(word_W) // window * window].reshape(-1, window), axis=1)
    different = 1 + (windows[:, 1:] != windows[:, :-1]).sum(axis=1)
    return float(different.mean() / window)


def _list(text: str) -> Fault | None:
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    short = [line for line in lines if len(line) <= 80 and line.count(" ") < 8 and line[-1] not in ENDS]
    with_numbers = sum(DIGIT.search(line) is not None for line in short)  # records of a table are none
    if len(short) >= 50 and 2 * with_numbers < len(short) and len(short) >= MOST_IN_LIST * len(lines):
        order = in_order(short)
        if order >= 0.8:
            return Fault("index", f"{len(short)} short lines in alphabetical order")
    return None


def _misread(tokens: list[str]) -> Fault | None:
    """Text recognition that failed. Names and commands return; misread words hardly do."""
    tokens = tokens[:MISREAD_TOKENS]
    if len(SUSPECT.findall(" ".join(tokens))) < FEWEST_MISREAD:
        return None
    often = Counter(token.strip(".,;:()\"'!?-") for token in tokens)
    wrong = sum(
        count <= 2 and len(token) <= LONGEST_MISREAD and MISREAD.fullmatch(token) is not None
        for token, count in often.items()
    )
    if wrong >= FEWEST_MISREAD and wrong > MOST_MISREAD * len(tokens):
        return Fault("misread letters", f"{wrong} words of {len(tokens)} with signs or digits inside")
    return None
