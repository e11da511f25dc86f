"""What one chat template makes of a row: roles that it does not have, and what it does not show.

A system prompt that is left out is an error: the answers would be trained as if nobody had asked for them like that.
Anything else is counted instead, and said once: many templates know no tools at all, and some change what they show.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
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


def check_shown(text: str, messages: Sequence[Message], tools: Sequence[Any] | None) -> Counter[str]:
    """What the rendered `text` lacks of questions, tools, calls and replies, by the names of `HIDDEN`.

    Raises `DataError` if it lacks a system prompt.
    """
    for number, message in enumerate(messages):
        if message.get("role") in ("system", "developer") and not _shows(text, message.get("content")):
            raise DataError(
                f"the chat template does not show message {number}, of role `{message['role']}`; give one that does "
                "with --chat_template FILE.jinja, or take it out of the row"
            )
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    replies = [message.get("content") for message in messages if message.get("role") == "tool"]
    seen = all(map(partial(_shows_tool, text), tools or ())) and all(map(partial(_shows_call, text), calls))
    hidden = Counter[str](rows_with_hidden_tools=int(not (seen and all(_shows(text, reply) for reply in replies))))
    questions = [message.get("content") for message in messages if message.get("role") == "user"]
    hidden["questions_changed"] = _changed(text, questions)
    hidden["calls_as_python"] = sum(_is_python(text, _arguments(call)) for call in calls)
    return +hidden


def answers_changed(text: str, messages: Sequence[Message], turns: Collection[int]) -> int:
    """How many answers among `turns` do not stand in `text` as they were written; thinking may have been left out."""
    answers = [message.get("content") for n, message in enumerate(messages) if n in turns and _answers(message)]
    return _changed(text, [a.rsplit("</think>", 1)[-1] if isinstance(a, str) else a for a in answers])


def _answers(message: Message) -> bool:
    return message.get("role") == "assistant" and not message.get("tool_calls")


def _changed(text: str, values: Sequence[object]) -> int:
    """How many of `values` do not stand in `text`. Looked for behind the one before first, so that time is linear."""
    place = changed = 0
    for value in values:
        wanted = value.strip() if isinstance(value, str) else ""
        at = text.find(wanted, place)
        if at >= 0:
            place = at + len(wanted)
        else:
            changed += not _shows(text, value)
    return changed


HIDDEN = {
    "questions_changed": "questions that the chat template does not show as they were written: {count}. Give another "
    "template with --chat_template FILE if that is not meant",
    "answers_changed": "answers that the chat template does not show as they were written, and that are trained as it "
    "shows them: {count}. Give another template with --chat_template FILE if that is not meant",
    "rows_with_hidden_tools": "rows with tools, calls or replies of tools that the chat template does not show: "
    "{count}. They are trained without them; give a template that shows them with --chat_template FILE",
    "calls_as_python": "tool calls written as Python writes them, not as JSON: {count}. Give a template with `tojson` "
    "by --chat_template FILE",
}
"""What to say of each, once."""


def _shows_tool(text: str, tool: Any) -> bool:
    return _names(text, _name(tool)) and _shows(text, _described(tool))


def _shows_call(text: str, call: Any) -> bool:
    arguments = _arguments(call)
    values = arguments.values() if isinstance(arguments, Mapping) else ()
    return _names(text, _name(call)) and all(_shows(text, value) for value in values)


def _arguments(call: Any) -> object:
    return (call.get("function") or {}).get("arguments")


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
