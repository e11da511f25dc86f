"""Which language a text is in, by the share of scripts among its letters; no model, no download.

`en` stands for Latin script (a French text counts as `en`: prompts ask for the document's own language anyway),
`zh` for Han without kana, `other` for everything else.
"""

from __future__ import annotations

import re
from string import ascii_letters
from typing import Literal

Language = Literal["en", "zh", "other"]

SAMPLE_CHARS = 20_000
HAN = re.compile(r"[㐀-䶿一-鿿]")
KANA = re.compile(r"[぀-ヿ]")
LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
LETTER = re.compile(r"[^\W\d_]")
ASCII_LETTERS = ascii_letters.encode()
ASCII = re.compile(r"[\x00-\x7f]+")


def detect_language(text: str) -> Language:
    """The language of a text, judged on its first, middle and last part."""
    third = SAMPLE_CHARS // 3
    if len(text) > SAMPLE_CHARS:
        middle = len(text) // 2
        text = text[:third] + text[middle : middle + third] + text[-third:]
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
