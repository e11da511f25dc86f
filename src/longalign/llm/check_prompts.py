"""The prompts of ingredients (presets of `data build`): written from the templates in `prompts/`, and parsed again.

A document comes first, byte for byte as in the other calls about it, so that a prefix cache serves these calls too. As
in `prompt`, `read_check` is the inverse of writing, so that the offline stand-in sees what an endpoint sees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from longalign.base.files import fingerprint
from longalign.llm.prompt import GAP, LANGUAGES, PLAIN, Wording, language_of, sections, wordings
from longalign.llm.prompt_check import MARK

Section = Literal[
    "reader", "intent", "follow_up", "part", "check", "check_scores", "check_again", "answerable", "refuse", "compare"
]
SECTIONS: tuple[Section, ...] = (
    "reader", "intent", "follow_up", "part", "check_scores", "check", "check_again", "answerable", "refuse", "compare",
)  # fmt: skip
ADDED: tuple[Section, ...] = ("compare", "reader", "intent")
"""Written behind another request, which they make more precise."""
FIELD = re.compile(r"\\\{(\w+)\\\}")


@dataclass(frozen=True)
class CheckAsked:
    """A request of an ingredient: what stands before it (a document or nothing), and the values in its template."""

    section: Section
    before: str
    values: Mapping[str, str]
    language: str


def write(section: Section, language: Wording, *, before: str = "", **values: str) -> str:
    """The user message of one request; `before`: a document, or another request."""
    text = _template(section, language)
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return before + GAP + text if before else text


def document_heading(number: int, title: str, language: Wording) -> str:
    """The line above one of several documents; `number` from 1."""
    return _template("document", language).replace("{number}", str(number)).replace("{title}", title)


def readers(language: Wording) -> list[str]:
    """Who may ask, a phrase each."""
    return [line for line in _template("readers", language).splitlines() if line.strip()]


def read_check(message: str, folder: str | None = None) -> CheckAsked | None:
    """Parses a message; None for one of another kind. Of several that end it, the last.

    folder: of prompts of one's own, as in `read_request`.
    """
    known = wordings(folder) if folder is None else (*wordings(folder), *LANGUAGES)
    place = len(message)
    while (place := message.rfind(MARK, 0, place)) >= 0:
        if place and not message[:place].endswith(GAP):
            continue
        tail = message[place:]
        for wording in known:
            for section in SECTIONS:
                if found := _pattern(section, wording).fullmatch(tail):
                    return CheckAsked(
                        section, message[:place].removesuffix(GAP), found.groupdict(), language_of(wording)
                    )
        return None
    return None


def without_added(message: str, folder: str | None = None) -> str:
    """A message without the sections that only make it more precise."""
    while (asked := read_check(message, folder)) is not None and asked.section in ADDED:
        message = asked.before
    return message


def checks_hash(language: Wording) -> str:
    """Names the wording of all ingredients' prompts."""
    texts = {name: _template(name, language) for name in sections("en") if name not in PLAIN}
    return fingerprint(texts)[:16]


def _template(section: str, language: Wording) -> str:
    """English where a language has no such section."""
    return sections(language).get(section) or sections("en")[section]


@cache
def _pattern(section: Section, language: Wording) -> re.Pattern[str]:
    return re.compile(FIELD.sub(r"(?P<\1>.*)", re.escape(_template(section, language))), re.DOTALL)
