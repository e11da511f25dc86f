"""A conversation through a tokenizer's chat template, in the form of its tool calls that this template shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from longalign.errors import DataError, first_line

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Renderer:
    """One tokenizer's template with the tools and template options of one row."""

    tokenizer: Any
    tools: Sequence[Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def template(self) -> str:
        return str(self.tokenizer.get_chat_template(tools=self.tools or None))

    def __call__(self, messages: Sequence[Message], *, prompt: bool = False, template: str | None = None) -> str:
        """Text of `messages`; `prompt` adds the header that asks for the assistant's turn."""
        from transformers.utils.chat_template_utils import render_jinja_template

        texts, _ = render_jinja_template(
            conversations=[[dict(message) for message in messages]],
            tools=list(self.tools) if self.tools else None,
            chat_template=template or self.template,
            add_generation_prompt=prompt,
            **{**self.tokenizer.special_tokens_map, **self.options},
        )
        return str(texts[0])


def render_row(render: Renderer, messages: Sequence[Message], *, prompt: bool = False) -> tuple[list[Message], str]:
    """The messages as this template reads them, and their text.

    Templates disagree on a turn that only calls tools (content missing, null or empty), on arguments (a mapping or JSON
    text) and on content (text or a list of parts); the first form that shows every call is taken.
    Raises `DataError` when the template refuses them all.
    """
    names = [str(call["name"]) for message in messages for call in _calls(message)]
    refusal, shown = "", None
    for form in _forms(messages, bool(names), _in_parts if _reads_parts(render) else _joined):
        try:
            text = render(form, prompt=prompt)
        except Exception as error:  # templates raise jinja2's errors or any other type
            refusal = first_line(error)
            continue
        if all(name in text for name in names):
            return form, text
        shown = shown or (form, text)
    if shown is None:
        raise DataError(f"the chat template refuses this conversation: {refusal}")
    return shown


def _reads_parts(render: Renderer) -> bool:
    """Whether the template shows content that is a list of parts, and not content that is a text."""

    def shows(content: Any) -> bool:
        try:
            return "uqzxk" in render([{"role": "user", "content": content}])
        except Exception:  # such content is not what it reads
            return False

    return not shows("uqzxk") and shows(_in_parts("uqzxk"))


def _joined(content: Any) -> Any:
    """Content that is a list of nothing but texts, as one text."""
    if isinstance(content, list | tuple):
        parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if parts and len(texts) == len(parts):
            return "".join(texts)
    return content


def _in_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _forms(messages: Sequence[Message], calls: bool, change: Callable[[Any], Any]) -> Iterator[list[Message]]:
    """One form after another, the most usual first; `change` is done to every content."""
    plain = [{key: value for key, value in message.items() if value is not None} for message in messages]
    told: list[Message] = [{**m, "content": change(m["content"])} if "content" in m else m for m in plain]
    if calls:
        for arguments in (_as_mapping, _as_text):
            for content in ({}, {"content": None}, {"content": ""}):
                yield [_call_form(message, arguments, content) for message in told]
        return
    yield told
    if any("content" not in message for message in told):
        yield [{"content": "", **message} for message in told]


def _call_form(message: Message, arguments: Callable[[Any], Any], content: Mapping[str, Any]) -> Message:
    if not _calls(message):
        return message
    kept = {key: value for key, value in message.items() if key != "content" or value}
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function", call)
        function = {**function, "arguments": arguments(function.get("arguments"))}
        calls.append({**call, "function": function} if "function" in call else function)
    return {**content, **kept, "tool_calls": calls}


def _calls(message: Message) -> list[Mapping[str, Any]]:
    """The functions that a message calls."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list | tuple):
        return []
    functions = [call.get("function", call) for call in calls if isinstance(call, Mapping)]
    return [function for function in functions if isinstance(function, Mapping) and function.get("name")]


def _as_mapping(arguments: Any) -> Any:
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


def _as_text(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
