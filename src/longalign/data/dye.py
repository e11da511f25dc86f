"""Which message each character of a rendered conversation comes from.

The conversation is rendered a second time with every text in it dyed: each character becomes one that stands for its
text alone. White space stays, so a template trims and splits the dyed text as it does the real one; where that is not
enough, what JSON escapes and the marks that the template looks for stay too. Both renderings must have the same length.
Where the dyed one shows a dye, the real one shows a character of that text; everywhere else both must be equal, or the
dyeing has failed. A few renderings a row, whatever its length, and no text is searched for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.data.render import Message, Renderer

_DYES = np.concatenate(
    [np.arange(0x20000, 0x2A6E0), np.arange(0xF0000, 0xFFFFE), np.arange(0x100000, 0x10FFFE)]
).astype(np.uint32)
"""Rare letters first: they print as themselves in every filter. Then characters for private use."""
_SPACE = np.zeros(0x3002, dtype=bool)
_SPACE[[*range(0x21), 0x7F, *(c for c in range(0x80, 0x3001) if chr(c).isspace())]] = True
_ESCAPED = _SPACE.copy()
_ESCAPED[[0x22, 0x5C]] = True
"""Characters that are never dyed, by code: white space and control characters; with quotes and backslashes, which JSON
writes as two characters each."""
_TEXTS = ("content", "reasoning_content", "reasoning", "thinking", "text")
_ASKED = re.compile(
    r"""(?:\(|==|!=)\s*(?P<a>'[^'\n]{2,60}'|"[^"\n]{2,60}")|(?P<b>'[^'\n]{2,60}'|"[^"\n]{2,60}")\s+(?:not\s+)?in\b"""
)


def owners(render: Renderer, messages: Sequence[Message], text: str) -> NDArray[np.int32] | None:
    """For each character of `text` (= render(messages)) the number of its message, -1 for the template's own words.

    None where the template turns dyed texts into something else than the real ones.
    """
    asked = asked_for(render.template)
    for kept in (_SPACE, _ESCAPED):
        for keep in (None, asked) if asked else (None,):
            found = _owners(render, messages, text, kept, keep)
            if found is not None:
                return found
    return None


def asked_for(template: str) -> re.Pattern[str] | None:
    """What a template looks for in texts (`'</think>' in content`): such marks must stay when texts change."""
    marks = {(match["a"] or match["b"])[1:-1].replace("\\n", "\n").strip() for match in _ASKED.finditer(template)}
    marks = {mark for mark in marks if mark and not mark.replace("_", "").isalnum()}
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True)))) if marks else None


def _owners(
    render: Renderer, messages: Sequence[Message], text: str, kept: NDArray[np.bool_], keep: re.Pattern[str] | None
) -> NDArray[np.int32] | None:
    sizes: list[int] = []  # dyed characters of each text
    of_text: list[int] = []  # its message

    def dye(words: str, number: int) -> str:
        if len(sizes) == len(_DYES):
            raise _TooManyTextsError
        code_N = _code(words)
        free_N = ~kept[np.minimum(code_N, len(kept) - 1)]
        for match in keep.finditer(words) if keep else ():
            free_N[match.start() : match.end()] = False
        dyed = np.where(free_N, _DYES[len(sizes)], code_N).astype("<u4")
        sizes.append(int(free_N.sum()))
        of_text.append(number)
        return dyed.tobytes().decode("utf-32-le", "surrogatepass")

    dyed_messages = []
    try:
        for number, message in enumerate(messages):
            dyed_messages.append(map_texts(message, partial(dye, number=number)))
        twin = render(dyed_messages)
    except Exception:  # a template that cannot take the dyed texts is one that reads them
        return None
    if len(twin) != len(text):
        return None
    twin_N, text_N = _code(twin), _code(text)
    place_N = np.searchsorted(_DYES, twin_N)
    place_N[place_N == len(_DYES)] = 0
    is_dyed_N = (_DYES[place_N] == twin_N) & (place_N < len(sizes))
    if not (is_dyed_N | (twin_N == text_N)).all():
        return None
    owner_N = np.full(len(text), -1, dtype=np.int32)
    at_D = np.flatnonzero(is_dyed_N)
    owner_N[at_D] = np.array([*of_text, -1], dtype=np.int32)[place_N[at_D]]
    owner_N[at_D[_repeats(place_N[at_D], np.array(sizes, dtype=np.int64))]] = -1
    return owner_N


class _TooManyTextsError(Exception):
    """More texts in a row than dyes."""


def _repeats(text_D: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places where a text is shown again (a tool's name in the header of its reply): that is the template's doing."""
    order_D = np.argsort(text_D, kind="stable")
    sorted_D = text_D[order_D]
    first_D = np.searchsorted(sorted_D, sorted_D)
    return order_D[np.arange(len(sorted_D)) - first_D >= sizes[sorted_D]]


def map_texts(message: Message, change: Callable[[str], str]) -> dict[str, Any]:
    """A message with every text in it changed: content and its parts, thinking, names and arguments of tool calls.

    Keys, types, ids and what is no text stay.
    """
    made = dict(message)
    for key in _TEXTS[:4]:
        if key in made:
            made[key] = _map(made[key], change, only=_TEXTS)
    if isinstance(made.get("tool_calls"), list | tuple):
        made["tool_calls"] = [_map_call(call, change) for call in made["tool_calls"]]
    return made


def _map(value: Any, change: Callable[[str], str], *, only: Sequence[str] | None = None) -> Any:
    """Every text inside; of objects those under the keys `only`, if given."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_map(part, change, only=only) for part in value]
    if isinstance(value, Mapping):
        return {
            key: _map(part, change, only=only) if only is None or key in only else part for key, part in value.items()
        }
    return value


def _map_call(call: Any, change: Callable[[str], str]) -> Any:
    if not isinstance(call, Mapping):
        return call
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _map_call(call["function"], change)}
    made = dict(call)
    if isinstance(made.get("name"), str):
        made["name"] = change(made["name"])
    if "arguments" in made:
        made["arguments"] = _map(made["arguments"], change)
    return made


def _code(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
