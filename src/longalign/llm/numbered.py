"""The questions in a model's reply to the call for them: a numbered list, in whatever style the model writes one.

Only the number that is due starts an item, so `11:`, `3.5` or a date inside an item never does. A blank line ends an
item: talk before and after the list is no item. What belongs to no question is taken off: its answer, a label of its
kind, quotation marks, closing words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise

from longalign.llm.one_question import ANSWER_WORDS, ASKS, LABEL, is_beside, question_alone

MARK = r"(?:[:：.．)）、\]】]|[ \t]?[-–—](?=\s))"
HAN_DIGITS = "零一二三四五六七八九十"
COUNTER = r"(?:[个個]?[问問][题題]|[题題问問번])"
OF = r"(?:(?:of|/)\s*\d{1,3}\s*)"
NUMBERS = r"(?P<number>\d{1,3})|(?P<han>[一二三四五六七八九十]{1,3})|(?P<roman>(?-i:[IVX]{1,5}))"
ITEM = re.compile(
    rf"^[\s>*_#-]*(?:(?P<label>{LABEL})?\s*[(（\[【]?\s*(?:{NUMBERS})\ufe0f?\u20e3?\s*(?:{COUNTER}\s*)?{OF}?\\?[*_]*{MARK}+(?!\d)[*_]*"
    r"|(?P<circled>[①-⑳]))[ \t]*(?P<text>.*)$",
    re.IGNORECASE,
)
HEADING = re.compile(rf"^[\s>*_#-]*{LABEL}\s*(?:{NUMBERS})\s*{COUNTER}?{OF}?[*_#\s]*$", re.IGNORECASE)
BULLET = re.compile(r"^\s*[-*•–‣·▪●]\s+(?P<text>\S.*)$")
FENCED = re.compile(r"```[\w-]*\n(?P<inside>.*?)(?:\n```|\Z)", re.DOTALL)
OPENING = re.compile(r"[\[{]\s*[\"{\[]")
ANSWERS = re.compile(
    rf"^[\s>*_#]*(?:{ANSWER_WORDS}|answers|answer key|solutions)[*_\s]*[:：]?[*_\s]*$", re.I | re.MULTILINE
)
"""A heading of answers below the questions."""
TAGS = re.compile(r"</?[a-z][\w-]*>", re.IGNORECASE)
LEAD = re.compile(rf"^[\W_]*(?:{LABEL}\s*)?(?P<number>\d{{1,3}})(?:[^\w\"“]+|(?=[^\W\d]))", re.IGNORECASE)
LETTER = re.compile(rf"^[\W_]*(?:(?:[a-z]|[ivx]{{1,5}})[.)）]|{LABEL}\s+\w+\s*[:：])\s*", re.IGNORECASE)
FIELDS = ("question", "q", "query", "prompt", "text", "问题", "質問", "질문")


def numbered_items(reply: str, *, limit: int) -> list[str]:
    """The questions of a reply, at most `limit`, in order, without numbers; what comes twice counts once.

    Accepts `1: `, `1. `, `1) `, `1 - `, `(1)`, `#1:`, `Q1:`, `**Question 1**` above its question, `问题一：`,
    `第1题：`, `一、`, Roman and circled numbers and the digits of any script, letters, numbers from 0, bullets, JSON, a
    fenced list, a table, items over several lines, a question a line, and a whole list on one line.
    """
    text = _without_answers(reply.strip())
    fenced = FENCED.search(text)
    if fenced and _any_item(fenced["inside"]) and not _any_item(text[: fenced.start()]):
        text = fenced["inside"].strip()
    seen: dict[str, None] = {}
    for item in _items(text, limit):
        if clean := question_alone(item):
            seen.setdefault(clean)
    return list(seen)[:limit]


def _items(text: str, limit: int) -> list[str]:
    if (from_json := _json_items(text)) is not None:
        return from_json
    first = _by_line(text, _number, start=0)
    items = first if len(first) > 1 else _by_line(text, _number)
    if len(items) >= min(2, limit):
        return items
    for other in (_in_line, _by_han, _by_roman, _bullets, _asking_lines):
        if len(found := other(text)) > max(1, len(items)):
            return found
    return items


def _without_answers(text: str) -> str:
    """Without a list of answers that is numbered anew below the questions."""
    asked = re.search("[?？؟]", text)
    for heading in ANSWERS.finditer(text, asked.end()) if asked else ():
        match = ITEM.match(text[heading.end() : heading.end() + 200].lstrip().partition("\n")[0])
        if match and 1 in (_number(match), _roman(match), _han(match)):
            return text[: heading.start()].rstrip()
    return text


def _any_item(text: str) -> bool:
    return _json_items(text.strip()) is not None or any(map(ITEM.match, text.split("\n")))


def _by_line(text: str, number_of: Callable[[re.Match[str]], int | None], *, start: int = 1) -> list[str]:
    items: list[str] = []
    inside = False
    for line in text.split("\n"):
        match = ITEM.match(line) or HEADING.match(line)
        if match and number_of(match) == len(items) + start:
            items.append(match.groupdict().get("text", "").strip())
            inside = True
        elif not line.strip():
            inside = inside and not items[-1]  # a number alone on its line may be followed by a blank one
        elif inside and items[-1] and is_beside(line, items[-1].rpartition("\n")[2]):
            inside = False
        elif inside:
            items[-1] = f"{items[-1]}\n{line.strip()}" if items[-1] else line.strip()
    return items


def _by_han(text: str) -> list[str]:
    return _by_line(text, _han)


def _by_roman(text: str) -> list[str]:
    return _by_line(text, _roman)


def _number(match: re.Match[str]) -> int | None:
    found = match.groupdict()
    if found.get("circled"):
        return ord(found["circled"]) - ord("①") + 1
    return int(found["number"]) if found["number"] else None  # also of other scripts' digits


def _han(match: re.Match[str]) -> int | None:
    """`一` to `九十九`."""
    text = match.groupdict()["han"]
    if not text:
        return None
    tens, ten, ones = text.rpartition("十")
    if not ten:
        return HAN_DIGITS.index(text) if len(text) == 1 else None
    return 10 * (HAN_DIGITS.index(tens[0]) if tens else 1) + (HAN_DIGITS.index(ones[0]) if ones else 0)


def _roman(match: re.Match[str]) -> int | None:
    text = match.groupdict()["roman"]
    if not text:
        return None
    values = [{"I": 1, "V": 5, "X": 10}[letter] for letter in text] + [0]
    return sum(-value if value < after else value for value, after in pairwise(values))


def _bullets(text: str) -> list[str]:
    """Bulleted questions; a list of anything else is talk."""
    items = [match["text"] for match in map(BULLET.match, text.split("\n")) if match]
    return items if 2 * sum(bool(ASKS.search(question_alone(item))) for item in items) >= len(items) else []


def _asking_lines(text: str) -> list[str]:
    """A question a line, however it is marked: tags, a table, letters, a number alone. Mostly other lines are talk."""
    items: list[str] = []
    lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
    for line in lines:
        cells = [cell.strip() for cell in TAGS.sub(" ", line).split("|")]
        asking = [cell for cell in cells if ASKS.search(cell)]
        if not asking:
            continue
        lead = LEAD.match(asking[-1])
        due = lead and int(lead["number"]) in (len(items), len(items) + 1)
        items.append((LEAD if due else LETTER).sub("", asking[-1], count=1).lstrip("-*•> "))
    return items if 2 * len(items) >= len(lines) else []


def _in_line(text: str) -> list[str]:
    """A list without line breaks: `1: What? 2: Why?`."""
    starts: list[tuple[int, int]] = []
    position = 0
    while match := re.compile(rf"(?:^|(?<=[\s?？。.!！]))[(（]?{len(starts) + 1}[:：.．)）、](?!\d)\s*").search(
        text, position
    ):
        starts.append((match.start(), match.end()))
        position = match.end()
    if len(starts) < 2:
        return []
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [text[begin:end] for (_, begin), end in zip(starts, ends, strict=True)]


def _json_items(text: str) -> list[str] | None:
    """The questions of a JSON list, of texts or of objects, also an object a line; None where the text is none.

    Within other text only a list that asks counts.
    """
    value, whole = _json_in(text)
    if isinstance(value, dict):
        lists = [inner for inner in value.values() if isinstance(inner, list)]
        value = lists[0] if lists else list(value.values())
    if not isinstance(value, list):
        return None
    texts = []
    for entry in value:
        if isinstance(entry, dict):
            fields = {str(name).lower(): inner for name, inner in entry.items()}
            entry = next((fields[name] for name in FIELDS if name in fields), None)
        if isinstance(entry, str):
            match = ITEM.match(entry)
            texts.append(match["text"] if match and "\n" not in entry else entry)
    asked = sum(bool(ASKS.search(entry)) for entry in texts)
    return texts if whole or (asked and 2 * asked >= len(texts)) else None


def _json_in(text: str) -> tuple[object, bool]:
    """The JSON value of a text, and whether it is the whole text; None where there is none."""
    opening = OPENING.search(text)
    if opening is None:
        return None, False
    start = opening.start()
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
        if start == 0 and text[end:].lstrip().startswith("{"):
            return [json.loads(line) for line in text.split("\n") if line.strip()], True
    except (ValueError, RecursionError):
        return None, False
    return value, start == 0 and end == len(text)
