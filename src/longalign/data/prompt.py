"""The requests of data construction: written from the templates in `prompts/`, and read back.

A message is the document, a blank line, then what is asked. The document comes first and byte for byte the same in
every call about it, so that a server's prefix cache reads it once. `read_request` is the exact inverse of writing:
the offline stand-in gets the same prompts as a paid endpoint and finds document and question by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from longalign.run import fingerprint

Task = Literal["general", "summary", "reasoning", "extraction"]
PromptLanguage = Literal["en", "zh"]

TASKS: tuple[Task, ...] = ("general", "summary", "reasoning", "extraction")
LANGUAGES: tuple[PromptLanguage, ...] = ("en", "zh")
GAP = "\n\n"
HEADING = re.compile(r"^## (\w+)\n", re.MULTILINE)


@dataclass(frozen=True)
class QuestionsAsked:
    """A call for numbered questions."""

    document: str
    task: Task
    count: int
    language: PromptLanguage


@dataclass(frozen=True)
class AnswerAsked:
    """A call for the answer to one question."""

    document: str
    question: str
    language: PromptLanguage


def prompt_language(language: str) -> PromptLanguage:
    """Chinese prompts for Chinese documents, English ones for all others (they ask for the document's language)."""
    return "zh" if language == "zh" else "en"


@cache
def sections(language: PromptLanguage) -> dict[str, str]:
    """The texts of one language's prompt file by heading."""
    text = files("longalign.data").joinpath(f"prompts/{language}.md").read_text(encoding="utf-8")
    parts = HEADING.split(text)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def prompt_hash(language: PromptLanguage) -> str:
    """Names the wording: rows made with another wording are another experiment."""
    return fingerprint(sections(language))[:16]


def questions_request(document: str, task: Task, count: int, language: PromptLanguage) -> str:
    """The user message that asks for `count` numbered questions of a task type."""
    return document + GAP + _questions(task, str(count), language)


def row_message(document: str, question: str) -> str:
    """The user message of a row: document, then question (paper section 3.1)."""
    return document + GAP + question


def answer_request(document: str, question: str, language: PromptLanguage) -> str:
    """The user message that asks for one answer: the row's message and how to answer."""
    return row_message(document, question) + GAP + sections(language)["answer"]


def follow_up_request(question: str, language: PromptLanguage) -> str:
    """A later user message about the same document."""
    return question + GAP + sections(language)["answer"]


def closed_book_request(question: str, language: PromptLanguage) -> str:
    """The question without its document."""
    return question + GAP + sections(language)["closed_book"]


def read_request(message: str) -> QuestionsAsked | AnswerAsked:
    """What a message asks; a message in none of our forms is read as document, blank line, question."""
    for language in LANGUAGES:
        for task in TASKS:
            before, after = _questions(task, "\0", language).split("\0")
            if message.endswith(after) and (count := re.search(r"\d+$", message[: -len(after)])):
                head = message[: count.start()]
                if head.endswith(GAP + before):
                    return QuestionsAsked(head[: -len(GAP + before)], task, int(count[0]), language)
    for language in LANGUAGES:
        ending = GAP + sections(language)["answer"]
        if message.endswith(ending):
            return AnswerAsked(*_last_paragraph(message[: -len(ending)]), language)
    document, question = _last_paragraph(message)
    return AnswerAsked(document, question, "zh" if re.search(r"[一-鿿]", question) else "en")


def _questions(task: Task, count: str, language: PromptLanguage) -> str:
    texts = sections(language)
    return texts["questions"].replace("{task}", texts[task]).replace("{count}", count)


def _last_paragraph(text: str) -> tuple[str, str]:
    document, _, question = text.rpartition(GAP)
    return document, question
