"""What one chat template makes of a row: roles that it does not have, and what it does not show.

What a template leaves out of the prompt is missing in use as well, and nothing would say so. So it is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from longalign.errors import DataError

Message = Mapping[str, Any]
DESCRIBED = 40
"""Characters of a tool's description that are looked for."""


def with_known_roles(tokenizer: Any, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's messages; `developer` is `system` where the template has no such role, in one message with a system
    prompt before it."""
    messages = [dict(message) for message in row["messages"]]
    if all(message.get("role") != "developer" for message in messages) or "developer" in _template(tokenizer, row):
        return messages
    changed: list[dict[str, Any]] = []
    for message in messages:
        role = "system" if message["role"] == "developer" else message["role"]
        if role == "system" and changed and changed[-1]["role"] == "system":
            changed[-1] = {**changed[-1], "content": f"{changed[-1]['content']}\n\n{message['content']}"}
        else:
            changed.append({**message, "role": role})
    return changed


def unused_kwargs(tokenizer: Any, row: Mapping[str, Any]) -> list[str]:
    """Names in the row's `chat_template_kwargs` that the template does not mention."""
    given = row.get("chat_template_kwargs") or {}
    return [name for name in given if not _names(_template(tokenizer, row), name)]


def check_shown(text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> None:
    """Raise `DataError` if the rendered `text` lacks a system prompt, a tool, a call or what a tool replied."""
    for what in _missing(text, messages, tools):
        raise DataError(
            f"the chat template does not show {what}; give one that does with --chat_template FILE.jinja, or take it "
            "out of the row"
        )


def _missing(text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> Iterator[str]:
    for tool in tools or ():
        if not _names(text, name := _name(tool)) or not _shows(text, _described(tool)):
            yield f"the tool `{name}`"
    for number, message in enumerate(messages):
        for call in message.get("tool_calls") or ():
            name, arguments = _name(call), (call.get("function") or {}).get("arguments")
            values = arguments.values() if isinstance(arguments, Mapping) else ()
            if not _names(text, name) or not all(_shows(text, value) for value in values):
                yield f"the call of `{name}` in message {number}"
            elif _is_python(text, arguments):
                yield f"the arguments of `{name}` in message {number} as JSON (but as Python does)"
        role = message.get("role")
        if role in ("system", "developer", "tool") and not _shows(text, message.get("content")):
            yield f"message {number}, of role `{role}`"


def _template(tokenizer: Any, row: Mapping[str, Any]) -> str:
    return str(tokenizer.get_chat_template(tools=row.get("tools")))


def _name(tool: Any) -> str:
    """Of a tool or call in the form of row_fields.py and row_turns.py; any other is the template's to judge."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return str(function.get("name", "")) if isinstance(function, Mapping) else ""


def _described(tool: Any) -> str:
    """How a tool's description begins: a call names its tool too, so a name alone is no tool."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    words = function.get("description") if isinstance(function, Mapping) else None
    return words.strip().split("\n", 1)[0][:DESCRIBED] if isinstance(words, str) else ""


def _is_python(text: str, arguments: object) -> bool:
    """Whether a mapping stands in the text as Python writes it, where that is not JSON."""
    if not isinstance(arguments, Mapping):
        return False
    written = str(dict(arguments))
    return written in text and written != json.dumps(arguments, ensure_ascii=False)


def _names(text: str, name: str) -> bool:
    return not name or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _shows(text: str, value: object) -> bool:
    """Whether a text stands in the rendered one, as it is or in JSON; any other value counts as shown."""
    if not isinstance(value, str) or value.strip() in text:
        return True
    return any(json.dumps(value, ensure_ascii=ascii_)[1:-1].strip() in text for ascii_ in (False, True))
