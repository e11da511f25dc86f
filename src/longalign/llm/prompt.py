"""The prompts of data construction: written from the templates in `prompts/`, and parsed again.

A message is the document, a blank line, then the request. The document comes first and is byte for byte the same in
every call about it, so that a server's prefix cache reads it once. `read_request` is the exact inverse of writing: the
offline stand-in gets the same prompts as a paid endpoint and finds document and question this way. `numbered_items`
takes the questions out of a model's reply.
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


MARK = r"[:：.．)）、]"
ITEM = re.compile(
    r"^[\s>*_#-]*(?:"
    rf"(?:question|q|问题|问)?\s*[(（\[]?\s*(?P<number>\d{{1,3}})\s*[*_]*{MARK}(?!\d)[*_]*|(?P<circled>[①-⑳]))"
    r"[ \t]*(?P<text>.*)$",
    re.IGNORECASE,
)


def numbered_items(reply: str, *, limit: int) -> list[str]:
    """The items 1, 2, ... of a reply, at most `limit`, in order, without their numbers.

    Accepts `1: `, `1. `, `1) `, `(1)`, `Q1:`, `问题1：`, full-width digits and marks, bold numbers, items over several
    lines, and a whole list on one line. Only the number that is due starts an item, so `11:`, `3.5` or a date inside
    an item never does. A blank line ends an item: comments before and after the list are no items.
    """
    text = reply.strip()
    items = _by_line(text)
    if len(items) < 2 <= limit:
        items = _in_line(text) or items
    seen: dict[str, None] = {}
    for item in items:
        clean = item.strip().strip("*_").strip()
        if clean:
            seen.setdefault(clean)
    return list(seen)[:limit]


def _by_line(text: str) -> list[str]:
    items: list[str] = []
    inside = False
    for line in text.split("\n"):
        match = ITEM.match(line)
        if match and _number(match) == len(items) + 1:
            items.append(match["text"].strip())
            inside = True
        elif not line.strip():
            inside = inside and not items[-1]  # a number alone on its line may be followed by a blank one
        elif inside:
            items[-1] = f"{items[-1]}\n{line.strip()}" if items[-1] else line.strip()
    return items


def _number(match: re.Match[str]) -> int:
    if match["circled"]:
        return ord(match["circled"]) - ord("①") + 1
    return int(match["number"])  # also of full-width digits


def _in_line(text: str) -> list[str]:
    """A list without line breaks: `1: What? 2: Why?`."""
    starts: list[tuple[int, int]] = []
    position = 0
    while match := re.compile(rf"(?:^|(?<=[\s?？。.!！]))[(（]?{len(starts) + 1}{MARK}(?!\d)\s*").search(
        text, position
    ):
        starts.append((match.start(), match.end()))
        position = match.end()
    if len(starts) < 2:
        return []
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [text[begin:end] for (_, begin), end in zip(starts, ends, strict=True)]
