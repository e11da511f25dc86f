"""Where the assistant's turns stand in a rendered conversation, for any Hugging Face chat template.

Every character's message is known from the dyed rendering (dye.py). Between the texts stand only the template's own
words; where a turn begins and ends in them is known from what the template writes around turns (turn_shapes.py). In a
template with `{% generation %}` blocks these choose what of the turns is trained; an end of turn just outside of them
is added. Where dyeing fails, the blocks alone tell, or the conversation with and without a turn.

Nothing here is trusted: turn_guard.py checks what is found, on other grounds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from longalign.data.dye import owners
from longalign.data.render import Message, Renderer
from longalign.data.turn_shapes import END, Ending, Kind, Shapes, kind_of_turn, shapes_of
from longalign.errors import DataError

_GENERATION = re.compile(r"\{%(?P<a>[-+]?)\s*(?P<end>end)?generation\s*(?P<b>[-+]?)%\}")
_MARKS = "\ue0f0", "\ue0f1"
_OPENER = re.compile(r"\s*(?:<\|?\w*think\w*\|?>|\[THINK\])?\s*", re.IGNORECASE)
FAR = 200
"""Characters behind a marked turn in which its end is looked for: no end is longer."""
MARK_IT = (
    "mark the assistant's turns with {% generation %}...{% endgeneration %} in a copy of the template and give it with "
    "--chat_template FILE"
)


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of the rendered text that message `turn` wrote; `closed`: they end with the end-of-turn
    token (and white space)."""

    start: int
    end: int
    closed: bool
    turn: int = -1


@dataclass(frozen=True)
class Found:
    """A conversation, its text, the assistant's spans in order, and for each character its message (-1: the template's
    words).

    owner_N: None where the template does not tell.
    """

    messages: Sequence[Message]
    text: str
    spans: list[Span]
    owner_N: NDArray[np.int32] | None


def find_turns(render: Renderer, messages: Sequence[Message], text: str) -> Found:
    """The spans of the assistant's turns that `text` (= render(messages)) shows.

    Raises `DataError` when one cannot be located.
    """
    owner_N = owners(render, messages, text)
    shapes = shapes_of(render)
    marked = _marked(render, messages, text)
    if owner_N is not None:
        spans = _between_texts(messages, text, owner_N, shapes)
        return Found(messages, text, spans if marked is None else _chosen(spans, marked, owner_N), owner_N)
    if marked is not None:
        return Found(messages, text, _of_turns(marked, messages, shapes, text), None)
    return Found(messages, text, _by_prefix(render, messages, text, shapes), None)


def _between_texts(messages: Sequence[Message], text: str, owner_N: NDArray[np.int32], shapes: Shapes) -> list[Span]:
    """Each stretch of an assistant's words, widened to the header before it and the end behind it."""
    at_D = np.flatnonzero(owner_N >= 0)
    if not len(at_D):
        return []
    breaks = np.flatnonzero(np.diff(owner_N[at_D])) + 1
    firsts, lasts = at_D[[0, *breaks]], at_D[[*(breaks - 1), -1]]
    blocks = [(int(owner_N[a]), int(a), int(b) + 1) for a, b in zip(firsts, lasts, strict=True)]
    nothing = (-1, 0, 0)
    spans: list[Span] = []
    around = zip([nothing, *blocks[:-1]], blocks, [*blocks[1:], (-1, len(text), len(text))], strict=True)
    for (before, _, previous), (turn, first, last), (after, following, _) in around:
        if messages[turn].get("role") != "assistant":
            continue
        # the message next to a turn comes first: it may show no words; a message shown there may come from elsewhere
        roles = [_role(messages, turn - 1), _role(messages, before)]
        start = previous + _header_length(text[previous:first], text[first : min(first + 16, last)], roles, shapes)
        behind = text[last:following]
        roles = [_role(messages, turn + 1), _role(messages, after)]
        found = _end_length(behind, messages[turn], roles, shapes)
        if found is None:
            raise DataError(
                f"the chat template does not show where assistant turn {turn} ends (it writes "
                f"{behind[:60]!r} behind it); {MARK_IT}"
            )
        length, closed = found
        spans.append(Span(start, last + length, closed, turn))
    return [replace(a, end=min(a.end, b.start)) for a, b in pairwise(spans)] + spans[-1:]


def _role(messages: Sequence[Message], number: int) -> str:
    return str(messages[number].get("role")) if 0 <= number < len(messages) else END


def _header_length(gap: str, words: str, roles: Sequence[str], shapes: Shapes) -> int:
    """Characters of `gap` (between another message's words and a turn's) that are not the turn's.

    `words`: the turn's first ones. They may repeat what the prompt ends with, the opening of a thought.
    """
    known = [prompt for role in (*roles, "user") for prompt in shapes.prompts.get(role, ())]
    for prompt in (*known, *filter(None, [_header(shapes)])):
        at = (gap + words).rfind(prompt)
        if at >= 0 and not _OPENER.fullmatch(prompt, max(len(gap) - at, 0)):
            at = gap.rfind(prompt)
        if at >= 0:
            length = at + len(prompt)
            hidden = shapes.endings.get(("words", "assistant")) or shapes.endings.get(("words", END))
            if "assistant" not in roles and hidden and hidden.closed and hidden.end in gap[length:]:
                # a turn without words stands in between, and was prompted for in place of this one
                return length + _header_length(gap[length:], words, ["assistant"], shapes)
            return length
    return len(gap)


def _header(shapes: Shapes) -> str:
    """The assistant's header alone: what prompts after different roles end with alike."""
    firsts = [found[0] for found in shapes.prompts.values()]
    length = 0
    if len(firsts) > 1:
        while all(first[-length - 1 :][:1] == firsts[0][-length - 1 :][:1] for first in firsts) and length < len(
            min(firsts, key=len)
        ):
            length += 1
    return firsts[0][len(firsts[0]) - length :] if firsts else ""


def _end_length(behind: str, message: Message, roles: Sequence[str], shapes: Shapes) -> tuple[int, bool] | None:
    """Characters of `behind` (what stands behind a turn's last word) that are the turn's, and whether it is closed."""
    kinds: tuple[Kind, ...] = ("call", "words") if kind_of_turn(message) == "call" else ("words",)
    known = [ending for kind in kinds for role in roles if (ending := shapes.endings.get((kind, role)))]
    others = [ending for kind in kinds for (other, _), ending in shapes.endings.items() if other == kind]
    for ending in known + others:
        if ending.closed and (at := behind.find(ending.end)) >= 0:
            return at + len(ending.end), True
    for ending in known:
        if not ending.closed and (length := _open_length(behind, ending)) is not None:
            return length, False
    return None


def _open_length(behind: str, ending: Ending) -> int | None:
    if not ending.rest:
        return len(behind) if behind.rstrip().endswith(ending.end.rstrip()) else None
    at = behind.find(ending.end + ending.rest)
    return at + len(ending.end) if at >= 0 else None


def _marked(render: Renderer, messages: Sequence[Message], text: str) -> list[tuple[int, int]] | None:
    """What `{% generation %}` blocks enclose. A character is written at each edge, since transformers' own way of
    finding them joins all text before every block."""
    template = render.template
    if not _GENERATION.search(template) or any(mark in text for mark in _MARKS):
        return None

    def mark(match: re.Match[str]) -> str:
        return "{{" + match["a"] + f" '{_MARKS[bool(match['end'])]}' " + match["b"] + "}}"

    try:
        pieces = re.split(f"([{''.join(_MARKS)}])", render(messages, template=_GENERATION.sub(mark, template)))
    except Exception:  # the marks stand where text is not allowed
        return None
    if "".join(pieces[::2]) != text:
        return None
    spans, place, start = [], 0, 0
    for piece in pieces:
        if piece == _MARKS[0]:
            start = place
        elif piece == _MARKS[1]:
            spans.append((start, place))
        else:
            place += len(piece)
    return [(start, end) for start, end in spans if end > start]


def _chosen(spans: Sequence[Span], marked: Sequence[tuple[int, int]], owner_N: NDArray[np.int32]) -> list[Span]:
    """The parts of the turns that the template marks; with a turn's last words marked, its end counts as marked too."""
    made: list[Span] = []
    place = 0
    for span in spans:
        while place < len(marked) and marked[place][1] <= span.start:
            place += 1
        words = np.flatnonzero(owner_N[span.start : span.end] == span.turn)
        words_end = span.start + int(words[-1]) + 1 if len(words) else span.end
        for start, end in marked[place:]:
            if start >= span.end:
                break
            last = end >= words_end
            start, end = max(start, span.start), span.end if last else min(end, span.end)
            if start < words_end:
                made.append(Span(start, end, span.closed and last, span.turn))
    return made


def _of_turns(marked: Sequence[tuple[int, int]], messages: Sequence[Message], shapes: Shapes, text: str) -> list[Span]:
    """Marked parts with the end-of-turn token that stands in them or behind them, where dyeing does not tell more."""
    turns = [number for number, message in enumerate(messages) if message.get("role") == "assistant"]
    ends = {ending.end.strip() for ending in shapes.endings.values() if ending.closed}
    made = []
    for place, (start, end) in enumerate(marked):
        closed = any(text[start:end].rstrip().endswith(close) for close in ends)
        behind = next((close for close in ends if text[end : end + FAR].lstrip().startswith(close)), None)
        if not closed and behind is not None:
            closed, end = True, text.index(behind, end) + len(behind)
        made.append(Span(start, end, closed, turns[place] if len(marked) == len(turns) else -1))
    return made


def _by_prefix(render: Renderer, messages: Sequence[Message], text: str, shapes: Shapes) -> list[Span]:
    """Each turn as what the conversation through it adds to the conversation before it."""
    spans = []
    for turn, message in enumerate(messages):
        if message.get("role") != "assistant":
            continue
        before = _rendered(render, messages[:turn], prompt=True) if turn else ""
        through = _rendered(render, messages[: turn + 1])
        start = None if before is None or through is None else common_length(before, text)
        if start is None or through is None or start < len(before or ""):
            raise DataError(f"assistant turn {turn} cannot be located in the chat template's text; {MARK_IT}")
        end = common_length(through, text)
        said = text[start:end]
        closings = [ending.end for ending in shapes.endings.values() if ending.closed]
        close = next((c for c in closings if c.strip() and c in said), None)
        spans.append(Span(start, start + said.rindex(close) + len(close) if close else end, close is not None, turn))
    return spans


def _rendered(render: Renderer, messages: Sequence[Message], *, prompt: bool = False) -> str | None:
    try:
        return render(messages, prompt=prompt)
    except Exception:  # a template may refuse a part of a conversation
        return None


def common_length(a: str, b: str) -> int:
    """Characters that two texts share at their beginning; by bisection, since texts are long."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
