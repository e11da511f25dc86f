"""Are these spans the assistant's turns? A check of every row that shares nothing with the code that finds them.

It needs no probe and no second rendering of the texts, only what everybody can see: the words of the messages, the
marks of control tokens, the names of roles, and what generation is prompted with.

1. Spans are in order, belong to assistant turns, and cut no control token in two.
2. Words of another message stand outside of the spans, between those of the turns around it.
3. A turn's own words, in their order, stand inside its spans.
4. Before the first and behind the last of them a span holds no header (a mark that names a role).
5. What ends the conversation's last turn ends the others too, if they have it, and is inside.
6. The last turn begins where generation would.

The work is linear in the text: each message is looked for between its neighbours only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from longalign.data.render import Message, Renderer
from longalign.errors import DataError


class Placed(Protocol):
    """Characters [start, end) that message `turn` is said to have written."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def turn(self) -> int: ...


_ROLE = r"(?:user|assistant|system|model|human|developer|observation|ipython|inst)(?![a-z])"
_MARK = r"(?:<[^<>\s]{1,60}>|\[/?[A-Z_]{2,40}\])"
_HEADER = re.compile(
    rf"{_MARK}\s*{_ROLE}|<[^<>\s]{{0,30}}(?<![a-z]){_ROLE}[^<>\s]{{0,30}}>|\[/?INST\]|^\W*{_ROLE}\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_TAG = re.compile(r"</?\w+>|\[/?THINK\]")
_GENERATION = re.compile(r"\{%[-+]?\s*generation\b")
NEAR = 64
LONG = 24
HELP = (
    "look at it with `longalign data show FILE --tokenizer DIR`; mark the assistant's turns with "
    "{% generation %}...{% endgeneration %} in a copy of the chat template and give it with --chat_template FILE"
)


def check_turns(
    render: Renderer, messages: Sequence[Message], text: str, spans: Sequence[Placed], control: frozenset[str]
) -> None:
    """Raise `DataError` unless `spans` of `text` (= render(messages)) hold the assistant's turns and nothing else.

    `control`: texts of the tokenizer's control tokens. All turns are expected, whether they will be trained or not.
    """
    chosen = bool(_GENERATION.search(render.template))  # a template's author may leave parts of a turn out
    fault = (
        _order_fault(messages, text, spans, control)
        or _words_fault(messages, text, spans, chosen)
        or _end_fault(messages, text, spans, control)
        or _start_fault(render, messages, text, spans, chosen)
    )
    if fault:
        raise DataError(f"targets cannot be told exactly from the chat template's text: {fault}; {HELP}")


def _order_fault(
    messages: Sequence[Message], text: str, spans: Sequence[Placed], control: frozenset[str]
) -> str | None:
    place, turn = 0, -1
    for span in spans:
        if not place <= span.start < span.end <= len(text) or span.turn < turn:
            return f"the spans of turns {turn} and {span.turn} overlap"
        if not 0 <= span.turn < len(messages) or messages[span.turn].get("role") != "assistant":
            return f"message {span.turn} is not the assistant's"
        for edge in (span.start, span.end):
            low = max(0, edge - NEAR)
            for mark in re.finditer(_MARK, text[low : edge + NEAR]):
                if low + mark.start() < edge < low + mark.end() and mark[0] in control:
                    return f"turn {span.turn} begins or ends inside {mark[0]}"
        place, turn = span.end, span.turn
    return None


def _words_fault(messages: Sequence[Message], text: str, spans: Sequence[Placed], chosen: bool) -> str | None:
    """Points 2, 3 and 4. One pass over messages and spans, side by side."""
    place = 0  # first span of this message or a later one
    for number, message in enumerate(messages):
        while place < len(spans) and spans[place].turn < number:
            place += 1
        stop = place
        while stop < len(spans) and spans[stop].turn == number:
            stop += 1
        own = spans[place:stop]
        around = text[spans[place - 1].end if place else 0 : spans[stop].start if stop < len(spans) else len(text)]
        if message.get("role") == "assistant":
            fault = _own_fault(number, message, text, own, around, chosen)
        else:
            near = [
                (text[span.start : span.end], "\n".join(_pieces(messages[span.turn])))
                for span in spans[max(place - 1, 0) : place + 1]
            ]
            fault = _other_fault(number, message, near, around)
            if fault and message.get("role") in ("system", "developer"):  # some templates move it, to the last question
                edges = [0, *(edge for span in spans for edge in (span.start, span.end)), len(text)]
                outside = "\n".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
                fault = _other_fault(number, message, near, outside)
        if fault:
            return fault
    return None


def _other_fault(number: int, message: Message, near: Sequence[tuple[str, str]], outside: str) -> str | None:
    """`near`: text of the spans before and behind, each with the words of its own turn, which may say the same."""
    for whole in _pieces(message):
        if len(whole) >= LONG and any(said.count(whole) > own.count(whole) for said, own in near):
            role = message.get("role")  # even if they stand where they belong as well
            return f"words of message {number} ({role}) are inside an assistant's turn: {whole[:40]!r}"
        for piece in () if _find(whole, outside) else _parts(whole):
            if not _find(piece, outside) and any(said.count(piece) > own.count(piece) for said, own in near):
                role = message.get("role")
                return f"words of message {number} ({role}) are inside an assistant's turn: {piece[:40]!r}"
    return None


def _own_fault(
    number: int, message: Message, text: str, own: Sequence[Placed], around: str, chosen: bool
) -> str | None:
    said = "".join(text[span.start : span.end] for span in own)
    first, last, lost = len(said), 0, False
    answer = next(reversed(list(_stretches(message.get("content")))), "")
    for whole in _pieces(message):
        parts = [whole] if _find(whole, said) else _parts(whole)
        for place, piece in enumerate(parts, 1):
            found = _find(piece, said, last) or _find(piece, said)
            if found:
                first, last = min(first, found[0]), max(last, found[1])
                continue
            lost = True
            if chosen or not own:
                continue
            # a template may drop thoughts, calls and what stands beside them, and short words stand anywhere
            ends = whole == answer and place == len(parts) and not message.get("tool_calls")
            sure = ends or len(piece) >= LONG
            edges = [text[max(0, e - len(piece) + 1) : e + len(piece) - 1] for s in own for e in (s.start, s.end)]
            if any(piece in edge for edge in edges) or (sure and _find(piece, around)):
                return f"words of assistant turn {number} are not in its targets: {piece[:40]!r}"
    if not last:
        return None  # words that the template rewrites; point 2 holds all the same
    words = "\n".join(_pieces(message))
    leading = _HEADER.match(said[:first].lstrip()) if lost else _HEADER.search(said[:first])
    for header in (leading, None if chosen or lost else _HEADER.search(said[last:])):
        if header and header[0] not in words and "think" not in header[0].lower():
            return f"assistant turn {number} holds a header: {header[0]!r}"
    return None


def _end_fault(messages: Sequence[Message], text: str, spans: Sequence[Placed], control: frozenset[str]) -> str | None:
    if not spans or messages[-1].get("role") != "assistant" or spans[-1].turn != len(messages) - 1:
        return None
    pieces = list(_pieces(messages[-1]))
    said = text[spans[-1].start :]
    found = _find(pieces[-1], said) if pieces else None
    close = _token_at(said, found[1], control) if found else None
    if close is None or found is None:
        return None
    for span in spans:
        cut = text[span.end : span.end + NEAR].lstrip().startswith(close)
        if cut and not text[span.start : span.end].rstrip().endswith(close):
            return f"the end of assistant turn {span.turn}, {close!r}, is not in its targets"
    return None


def _token_at(text: str, place: int, control: frozenset[str]) -> str | None:
    """The control token that follows `place`, white space apart, if it is no header's beginning."""
    ahead = text[place : place + NEAR].lstrip()
    found = re.match(_MARK, ahead)
    if not found or found[0] not in control or _HEADER.fullmatch(found[0]):
        return None
    named = re.match(rf"\s*{_ROLE}\s*{_MARK}", ahead[found.end() :], re.IGNORECASE)
    return None if named else found[0]


def _start_fault(
    render: Renderer, messages: Sequence[Message], text: str, spans: Sequence[Placed], chosen: bool
) -> str | None:
    last = len(messages) - 1
    own = [span for span in spans[-4:] if span.turn == last]
    if not own or not last:
        return None
    try:
        prompted = render(messages[:last], prompt=True)
    except Exception:  # a template may refuse a part of a conversation
        return None
    start = own[0].start
    if not text.startswith(prompted) or start == len(prompted) or (chosen and start > len(prompted)):
        return None
    if start > len(prompted) and prompted == render(messages[:last]):
        return None  # no generation prompt: the header that the turn brings with it is not prompted
    return f"assistant turn {last} does not begin where generation is prompted ({len(prompted) - start:+d} characters)"


def _pieces(message: Message) -> Iterator[str]:
    """The texts of a message: thinking, answer or its parts, names and arguments of calls."""
    for key in ("reasoning_content", "reasoning", "thinking", "content"):
        yield from _stretches(message.get(key))
    for call in message.get("tool_calls") or ():
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        yield from _stretches(function.get("name"))
        yield from _stretches(function.get("arguments"))


def _stretches(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from filter(None, [value.strip()])
    elif isinstance(value, Mapping):
        for key, part in value.items():
            if key not in ("type", "id"):
                yield from _stretches(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _stretches(part)


def _parts(piece: str) -> list[str]:
    """A text that is not shown as a whole: what stands between its tags, at which templates cut it."""
    return [part for part in map(str.strip, _TAG.split(piece)) if part and not re.fullmatch(_MARK, part)]


def _find(piece: str, text: str, start: int = 0) -> tuple[int, int] | None:
    """Where `piece` stands in `text`, as it is or as JSON writes it."""
    for form in (piece, json.dumps(piece, ensure_ascii=False)[1:-1]):
        at = text.find(form, start)
        if at >= 0:
            return at, at + len(form)
    return None
