"""Where the assistant's turns stand in a rendered conversation, for any Hugging Face chat template.

Three ways, tried in this order:
1. `{% generation %}` blocks: the template says it itself.
2. Prefixes: the conversation up to a turn, with and without the turn. Exact when earlier text never changes as the
   conversation grows, which holds for most templates.
3. Differences: the whole conversation rendered a second time with another text in that one turn; what differs is
   where the turn stands. Needed where the template treats the last turn specially (Qwen3 drops earlier thinking).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from longalign.errors import DataError

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of the rendered text; `closed`: they end with the end-of-turn token (and white space)."""

    start: int
    end: int
    closed: bool


@dataclass(frozen=True)
class Renderer:
    """One tokenizer's template with the tools and template options of one row."""

    tokenizer: Any
    tools: Sequence[Any] | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """Text of `messages`; `prompt` adds the header that asks for the assistant's turn."""
        text = self.tokenizer.apply_chat_template(
            [{**message, "content": message.get("content") or ""} for message in messages],
            tools=list(self.tools) if self.tools else None,
            tokenize=False,
            add_generation_prompt=prompt,
            **self.options,
        )
        return str(text)


def assistant_spans(
    tokenizer: Any,
    messages: Sequence[Message],
    tools: Sequence[Any] | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> tuple[str, list[Span]]:
    """The rendered conversation and the span of each assistant turn that it shows, in order.

    Raises `DataError` when the template refuses the conversation or a turn cannot be located.
    """
    render = Renderer(tokenizer, tools, template_options or {})
    try:
        text = render(messages)
    except Exception as error:  # template errors come as jinja2's or any other type
        raise DataError(f"the chat template refuses this conversation: {error}") from None
    marked = _generation_spans(render, messages, text)
    if marked is not None:
        return text, marked
    turns = [number for number, message in enumerate(messages) if message.get("role") == "assistant"]
    spans: list[Span] = []
    for number in turns:
        begin = spans[-1].end if spans else 0
        span = _by_prefix(render, messages, number, text) or _by_difference(render, messages, number, text, begin)
        if span is None:
            raise DataError(
                f"assistant turn {number} cannot be located in the chat template's text; "
                "mark it in the template with {% generation %}...{% endgeneration %}"
            )
        if span.end > span.start:
            spans.append(span)
    return text, spans


def _generation_spans(render: Renderer, messages: Sequence[Message], text: str) -> list[Span] | None:
    tokenizer, tools = render.tokenizer, render.tools
    template = tokenizer.get_chat_template(tools=tools)
    if not re.search(r"\{%-?\s*generation\s*-?%\}", template):
        return None
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, indices = render_jinja_template(
        conversations=[[{**message, "content": message.get("content") or ""} for message in messages]],
        tools=list(tools) if tools else None,
        chat_template=template,
        return_assistant_tokens_mask=True,
        **{**tokenizer.special_tokens_map, **render.options},
    )
    if rendered[0] != text:
        return None
    return [Span(start, end, _ends_closed(tokenizer, text[start:end])) for start, end in indices[0] if end > start]


def _by_prefix(render: Renderer, messages: Sequence[Message], number: int, text: str) -> Span | None:
    try:
        before = render(messages[:number]) if number else ""
        prompted = render(messages[:number], prompt=True) if number else ""
        through = render(messages[: number + 1])
    except Exception:
        return None
    if not (text.startswith(through) and through.startswith(before)):
        return None
    header = prompted[len(before) :] if prompted.startswith(before) else ""
    turn = through[len(before) :]
    start = len(before) + common_length(header, turn)
    return Span(start, len(through), _ends_closed(render.tokenizer, turn))


def _by_difference(render: Renderer, messages: Sequence[Message], number: int, text: str, begin: int) -> Span | None:
    """Locate turn `number` by changing its content; `begin` is where the turn before it ends."""
    content = messages[number].get("content") or ""
    if not isinstance(content, str):
        return None
    other = "".join("y" if c == "x" else "x" for c in (content.strip()[:1] or "x") + (content.strip()[-1:] or "x"))
    changed = [dict(message) for message in messages]
    changed[number] = {**changed[number], "content": other}
    try:
        twin = render(changed)
    except Exception:
        return None
    if twin == text:
        return None
    first = common_length(text, twin)
    rest = common_length(text[first:][::-1], twin[first:][::-1])
    content_end = len(text) - rest
    start = first
    header = _header(render, messages, number)
    if header:
        found = text.rfind(header, begin, first + len(header))
        if found < 0 or found + len(header) > first:
            return None
        start = found + len(header)
    closing = _closing(render)
    if not closing:
        return Span(start, content_end, False)
    closed_at = text.find(closing, content_end)
    return None if closed_at < 0 else Span(start, closed_at + len(closing), True)


def _header(render: Renderer, messages: Sequence[Message], number: int) -> str:
    """The template's text before an assistant's turn, without a thinking block that it opens itself."""
    try:
        before, prompted = render(messages[:number]), render(messages[:number], prompt=True)
    except Exception:
        return ""
    header = prompted[len(before) :] if prompted.startswith(before) else ""
    return header.split("<think>")[0]


def _closing(render: Renderer) -> str:
    """The end-of-turn text of a template, as seen after a short answer; empty if it has none."""
    question, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "bcb"}
    text = render([question, answer])
    turn = text[text.rfind("bcb") + 3 :]
    return turn.rstrip() if _ends_closed(render.tokenizer, turn) else ""


def _ends_closed(tokenizer: Any, turn: str) -> bool:
    """Whether a turn's text ends with a control token, white space apart."""
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return turn.rstrip().endswith(tuple(set(special + list(tokenizer.all_special_tokens))))


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
