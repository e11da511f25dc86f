"""The prompts of data construction: written from the templates in `prompts/`, and parsed again.

A message is the document, a blank line, then the request. The document comes first and is byte for byte the same in
every call about it, so that a server's prefix cache reads it once. `read_request` is the exact inverse of writing: the
offline stand-in gets the same prompts as a paid endpoint and finds document and question this way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from longalign.base.files import fingerprint
from longalign.config.questions import TASKS
from longalign.llm.prompt_file import LANGUAGES, TASK, PromptLanguage, prompt_language
from longalign.llm.prompt_texts import Wording, language_of, sections, wording_for, wordings

__all__ = [
    "LANGUAGES", "TASKS", "PromptLanguage", "Wording", "language_of", "prompt_language", "sections", "wording_for",
    "wordings",
]  # fmt: skip

Task = str
"""One of `TASKS`, or of one's own (`prompt_texts.own_tasks`)."""
PLAIN = ("questions", *TASKS, "answer", "closed_book")
"""Sections that plain Self-Instruct uses."""
GAP = "\n\n"


@dataclass(frozen=True)
class QuestionsAsked:
    """A call for numbered questions. `language`: of its prompt."""

    document: str
    task: Task
    count: int
    language: str


@dataclass(frozen=True)
class AnswerAsked:
    """A call for the answer to one question. `language`: of its prompt."""

    document: str
    question: str
    language: str


def prompt_hash(language: Wording) -> str:
    """Names the wording: rows made with another wording are another experiment.

    Prompts of ingredients (`check_prompts`) have hashes of their own.
    """
    texts = sections(language)
    names = [*PLAIN, *(name for name in texts if name.startswith(TASK))]
    return fingerprint({name: texts[name] for name in names})[:16]


def questions_request(document: str, task: Task, count: int, language: Wording) -> str:
    """The user message that asks for `count` numbered questions of a task type."""
    return document + GAP + _questions(task, str(count), language)


def row_message(document: str, question: str) -> str:
    """The user message of a row: document, then question (paper section 3.1)."""
    return document + GAP + question


def answer_request(document: str, question: str, language: Wording) -> str:
    """The user message that asks for one answer: the row's message and how to answer."""
    return row_message(document, question) + GAP + sections(language)["answer"]


def follow_up_request(question: str, language: Wording) -> str:
    """A later user message about the same document."""
    return question + GAP + sections(language)["answer"]


def closed_book_request(question: str, language: Wording) -> str:
    """The question without its document."""
    return question + GAP + sections(language)["closed_book"]


def read_request(message: str, folder: str | None = None) -> QuestionsAsked | AnswerAsked:
    """Parses a message; one that matches no template is read as document, blank line, question.

    folder: of prompts of one's own (setting `prompts`), which are tried as well.
    """
    known = wordings(folder) if folder is None else (*wordings(folder), *LANGUAGES)
    for wording in known:
        for task in tasks_of(wording):
            before, after = _questions(task, "\0", wording).split("\0")
            if message.endswith(after) and (count := re.search(r"\d+$", message[: -len(after)])):
                head = message[: count.start()]
                if head.endswith(GAP + before):
                    return QuestionsAsked(head[: -len(GAP + before)], task, int(count[0]), language_of(wording))
    for wording in known:
        ending = GAP + sections(wording)["answer"]
        if message.endswith(ending):
            return AnswerAsked(*_last_paragraph(message[: -len(ending)]), language_of(wording))
    document, question = _last_paragraph(message)
    return AnswerAsked(document, question, "zh" if re.search(r"[一-鿿]", question) else "en")


def tasks_of(wording: Wording) -> tuple[Task, ...]:
    """The kinds of questions that a wording has texts for."""
    return *TASKS, *(name.removeprefix(TASK) for name in sections(wording) if name.startswith(TASK))


@cache
def _questions(task: Task, count: str, language: Wording) -> str:
    texts = sections(language)
    asked = texts[task] if task in texts else texts[TASK + task]
    return texts["questions"].replace("{task}", asked).replace("{count}", count)


def _last_paragraph(text: str) -> tuple[str, str]:
    document, _, question = text.rpartition(GAP)
    return document, question
