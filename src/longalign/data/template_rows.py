"""A row as one tokenizer's chat template takes it, and whether the template shows all of it.

Templates differ in what they make of a message without content, of the role `developer` and of tools. What a template
leaves out is missing from the prompt at inference as well, so a row with it cannot be trained and says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from longalign.errors import DataError

Message = Mapping[str, Any]


def messages_for_template(tokenizer: Any, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The row's messages: `developer` is `system` where the template has no such role, and content that is null stays
    null where the template knows it, and is empty text where it would fail on it or print `None`."""
    messages = [dict(message) for message in row["messages"]]
    template = str(tokenizer.get_chat_template(tools=row.get("tools")))
    if any(message.get("role") == "developer" for message in messages) and "developer" not in template:
        messages = _as_system(messages)
    if all(message.get("content") is not None for message in messages):
        return messages
    filled = [{**message, "content": message.get("content") or ""} for message in messages]
    as_null, as_text = (_rendered(tokenizer, row, which) for which in (messages, filled))
    knows_null = as_null is not None and (as_text is None or as_null.count("None") <= as_text.count("None"))
    return messages if knows_null and as_null != as_text else filled


def unused_kwargs(tokenizer: Any, row: Mapping[str, Any]) -> list[str]:
    """Names in the row's `chat_template_kwargs` that the template does not mention."""
    template = str(tokenizer.get_chat_template(tools=row.get("tools")))
    return [name for name in row.get("chat_template_kwargs") or () if name not in template]


def check_shown(text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> None:
    """Raise `DataError` if the rendered `text` lacks a system prompt, a tool, a call or what a tool replied."""
    for tool in tools or ():
        if (name := _name(tool)) not in text:
            raise _not_shown(f"the tool `{name}`")
    for number, message in enumerate(messages):
        for call in message.get("tool_calls") or ():
            arguments = (call.get("function") or {}).get("arguments")
            values = arguments.values() if isinstance(arguments, Mapping) else ()
            if (name := _name(call)) not in text or not all(_shows(text, value) for value in values):
                raise _not_shown(f"the call of `{name}` in message {number}")
        role = message.get("role")
        if role in ("system", "developer", "tool") and not _shows(text, message.get("content") or ""):
            raise _not_shown(f"message {number}, of role `{role}`")


def _name(tool: Any) -> str:
    """Of a tool or call in the form of row_fields.py and row_turns.py; of anything else the template judges."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return str(function.get("name", "")) if isinstance(function, Mapping) else ""


def _not_shown(what: str) -> DataError:
    return DataError(
        f"the chat template does not show {what}, so the model would never see it; use a template that does "
        "(--chat_template FILE.jinja) or take it out of the row"
    )


def _shows(text: str, value: object) -> bool:
    """Whether a value stands in the text, as it is or in JSON; of values that are no text only that is not checked."""
    if not isinstance(value, str):
        return True
    forms = (value.strip(), json.dumps(value, ensure_ascii=False)[1:-1].strip(), json.dumps(value)[1:-1].strip())
    return any(form in text for form in forms)


def _as_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Beside a system prompt the developer's text follows in the same message."""
    changed: list[dict[str, Any]] = []
    for message in messages:
        role = "system" if message["role"] == "developer" else message["role"]
        if role == "system" and changed and changed[-1]["role"] == "system":
            changed[-1] = {**changed[-1], "content": f"{changed[-1]['content']}\n\n{message['content']}"}
        else:
            changed.append({**message, "role": role})
    return changed


def _rendered(tokenizer: Any, row: Mapping[str, Any], messages: list[dict[str, Any]]) -> str | None:
    try:
        text = tokenizer.apply_chat_template(
            messages, tools=row.get("tools") or None, tokenize=False, **(row.get("chat_template_kwargs") or {})
        )
    except Exception:  # jinja2's errors and any other
        return None
    return str(text)
