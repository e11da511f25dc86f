"""Foreign text stays by itself: a name or an answer with right-to-left letters or controls cannot turn what follows.

The page is written from left to right. Text without such characters needs nothing. Text with them is put into `<bdi>`
where the page shows it as it is: `isolate`, which every `{{ ... }}` of the template goes through. In a sentence, a tip
or an attribute it stands between isolating characters: `inline`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from markupsafe import Markup, escape

TURNING = frozenset({"R", "AL", "AN", "RLE", "RLO", "LRE", "LRO", "PDF", "RLI", "LRI", "FSI", "PDI"})
"""Bidirectional classes of characters that can change the order of what stands beside them (UAX 9)."""
CONTROLS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
FIRST_STRONG, POP = "\u2068", "\u2069"
OPENING = frozenset({"RLI", "LRI", "FSI"})


def turns(text: str) -> bool:
    """Whether a text could change the order of others."""
    return not text.isascii() and any(unicodedata.bidirectional(letter) in TURNING for letter in text)


def isolate(value: object) -> object:
    """What the template shows of a value: markup and numbers as they are, text in `<bdi>` where it needs that."""
    if not isinstance(value, str) or isinstance(value, Markup) or not turns(value):
        return value
    return Markup("<bdi>{}</bdi>").format(_closed(value))


def inline(text: str) -> str:
    """A name inside a sentence of ours: without controls, and isolated where its letters run from right to left."""
    text = text.translate(CONTROLS)
    return f"{FIRST_STRONG}{text}{POP}" if turns(text) else text


def plain(value: object) -> Markup:
    """A value inside an attribute or the title of the page, where elements are no elements."""
    return Markup(escape(inline(value) if isinstance(value, str) else value))


def joined(values: Iterable[object], between: str) -> Markup:
    """Several values, each isolated."""
    return Markup(escape(between)).join(escape(isolate(value)) for value in values)


def _closed(text: str) -> str:
    """The text without characters that would end an isolation from outside."""
    depth, kept = 0, []
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        depth += kind in OPENING
        if kind == "PDI":
            if not depth:
                continue
            depth -= 1
        kept.append(letter)
    return "".join(kept)
