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

LABEL = (
    r"(?:question|q|problem|问题|問題|质问|質問|问|問|第|질문|문제|pregunta|frage|вопрос|السؤال|سؤال)"
    r"\s*(?:no\.?|nr\.?|n[°º])?"
)
MARK = r"(?:[:：.．)）、\]】]|[ \t]?[-–—](?=\s))"
HAN_DIGITS = "零一二三四五六七八九十"
NUMBERS = r"(?P<number>\d{1,3})|(?P<han>[一二三四五六七八九十]{1,3})|(?P<roman>(?-i:[IVX]{1,5}))"
ITEM = re.compile(
    rf"^[\s>*_#-]*(?:(?P<label>{LABEL})?\s*[(（\[【]?\s*(?:{NUMBERS})\s*(?:[题題问問번]\s*)?[*_]*{MARK}(?!\d)[*_]*"
    r"|(?P<circled>[①-⑳]))[ \t]*(?P<text>.*)$",
    re.IGNORECASE,
)
HEADING = re.compile(rf"^[\s>*_#-]*{LABEL}\s*(?:{NUMBERS})\s*[题題问問번]?[*_#\s]*$", re.IGNORECASE)
BULLET = re.compile(r"^\s*[-*•–‣·▪●]\s+(?P<text>\S.*)$")
ASKS = re.compile(r"[?？؟]\W*$")
ANSWER_WORDS = (
    r"(?:sample |suggested |correct )?answer|solution|答案|回答|解答|答え|답변|정답|답|"
    r"respuesta|réponse|antwort|ответ|الإجابة|الجواب"
)
ANSWER_LINE = re.compile(rf"^[\s>*_#(-]*(?:{ANSWER_WORDS}|ans|a)\s*\d*\s*[*_]*[:：]", re.IGNORECASE)
ANSWER_BEHIND = re.compile(
    rf"(?<=[?？؟.。\"”*])\s*[\[(（]?[*_]*(?:{ANSWER_WORDS})[*_]*\s*[:：].*$", re.IGNORECASE | re.DOTALL
)
CLOSING = re.compile(
    r"^\s*#{2,6}\s|^\W*(?:i hope|hope (?:this|these)|let me know|feel free|please (?:let|feel)|these questions|"
    r"would you like|"
    r"希望|如果您|如需|以上(?:问题|是)|これらの質問|이 질문|espero que|j['’]espère|ich hoffe|надеюсь|آمل)",
    re.IGNORECASE,
)
KINDS = (
    r"fact(?:ual)?|general|summary|summari[sz]ation|reasoning|multi-?hop|inference|extraction|detail|analysis|"
    r"easy|medium|hard"
)
TYPED = re.compile(
    rf"^(?:\*\*[^\W\d][\w /&-]{{2,30}}(?::\*\*|\*\*\s*:)|[(（\[](?:{KINDS})[)）\]]:?|(?:{KINDS}):)\s*", re.IGNORECASE
)
QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "「": "」", "『": "』"}
FENCED = re.compile(r"```[\w-]*\n(?P<inside>.*?)(?:\n```|\Z)", re.DOTALL)
FIELDS = ("question", "q", "query", "prompt", "text", "问题", "質問", "질문")


def numbered_items(reply: str, *, limit: int) -> list[str]:
    """The questions of a reply, at most `limit`, in order, without numbers; what comes twice counts once.

    Accepts `1: `, `1. `, `1) `, `1 - `, `(1)`, `#1:`, `Q1:`, `**Question 1**` above its question, `问题一：`,
    `第1题：`, `一、`, Roman and circled numbers and the digits of any script, numbers from 0, bullets, JSON, a fenced
    list, items over several lines, and a whole list on one line.
    """
    text = reply.strip()
    fenced = FENCED.search(text)
    if fenced and _any_item(fenced["inside"]) and not _any_item(text[: fenced.start()]):
        text = fenced["inside"].strip()
    seen: dict[str, None] = {}
    for item in _items(text, limit):
        if clean := _clean(item):
            seen.setdefault(clean)
    return list(seen)[:limit]


def _items(text: str, limit: int) -> list[str]:
    if (from_json := _json_items(text)) is not None:
        return from_json
    first = _by_line(text, _number, start=0)
    items = first if len(first) > 1 else _by_line(text, _number)
    if len(items) >= min(2, limit):
        return items
    for other in (_in_line(text), _by_line(text, _han), _by_line(text, _roman), _bullets(text)):
        if len(other) > max(1, len(items)):
            return other
    return items


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
        elif inside and items[-1] and (ANSWER_LINE.match(line) or CLOSING.match(line)):
            inside = False
        elif inside:
            items[-1] = f"{items[-1]}\n{line.strip()}" if items[-1] else line.strip()
    return items


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
    return items if 2 * sum(bool(ASKS.search(_clean(item))) for item in items) >= len(items) else []


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
    """The questions of a JSON list, of texts or of objects; None where the text is none."""
    if not text.startswith(("[", "{")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
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
    return texts


def _clean(item: str) -> str:
    """A question alone."""
    text = ANSWER_BEHIND.sub("", item.strip()).strip()
    if text.count("```") % 2:
        text = text.rstrip("`").rstrip() if text.endswith("```") else text
    text = TYPED.sub("", text, count=1)
    text = _without_bold(text)
    if _is_quoted(text):
        text = text[1:-1].strip()
    return re.sub(r"\n\s*\n+", "\n", text)


def _without_bold(text: str) -> str:
    """Without the stars around the whole, and those whose other half the number took."""
    while len(text) > 2 and text[0] in "*_" and text[-1] == text[0]:
        text = text[1:-1].strip()
    while text.endswith(("**", "__")) and text.count(text[-2:]) % 2:
        text = text[:-2].rstrip()
    return text


def _is_quoted(text: str) -> bool:
    """Whether quotation marks stand around the whole; a mark inside that follows a space opens another quotation."""
    close = QUOTES.get(text[:1])
    if close is None or len(text) < 3 or not text.endswith(close):
        return False
    inner = text.find(close, 1)
    return inner == len(text) - 1 or text[inner - 1].isspace()
