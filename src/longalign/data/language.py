"""Which language a text is in, by the share of scripts among its letters; no model, no download.

`en` stands for Latin script (a French text counts as `en`: prompts ask for the document's own language anyway),
`zh` for Han without kana, `other` for everything else.
"""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "zh", "other"]

SAMPLE_CHARS = 20_000
HAN = re.compile(r"[㐀-䶿一-鿿]")
KANA = re.compile(r"[぀-ヿ]")
LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
LETTER = re.compile(r"[^\W\d_]")


def detect_language(text: str) -> Language:
    """The language of a text, judged on its first, middle and last part."""
    third = SAMPLE_CHARS // 3
    if len(text) > SAMPLE_CHARS:
        middle = len(text) // 2
        text = text[:third] + text[middle : middle + third] + text[-third:]
    letters = len(LETTER.findall(text))
    if not letters:
        return "other"
    han, kana, latin = (len(pattern.findall(text)) for pattern in (HAN, KANA, LATIN))
    if kana > 0.1 * (han + kana):
        return "other"
    # A Han character carries about as much as three Latin letters, so mixed technical Chinese counts as Chinese.
    if han * 3 >= latin and han * 3 >= 0.5 * letters:
        return "zh"
    return "en" if latin >= 0.5 * letters else "other"
