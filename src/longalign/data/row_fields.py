"""What stands beside the conversation in a row and changes what is trained: it is used, or it is an error.

`system` (also `system_prompt`, `system_message`) becomes the first message. `tools` (also OpenAI's earlier `functions`)
may be JSON in a string. `chat_template_kwargs` goes to the chat template. A row whose `weight` is 0 is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longalign.data.row_formats import Row
from longalign.data.row_turns import Messages
from longalign.data.row_values import flag_of, json_of, kind_of, text_of
from longalign.errors import DataError

SYSTEM = ("system", "system_prompt", "system_message")
MEDIA = ("images", "image", "videos", "video", "audios", "audio")
OF_TEMPLATES = ("enable_thinking", "reasoning_effort", "thinking_budget")
# fmt: off
RESERVED = (
    "messages", "conversation", "conversations", "tools", "chat_template", "add_generation_prompt", "tokenize",
    "continue_final_message", "padding", "truncation", "max_length", "return_tensors", "return_dict",
    "return_assistant_tokens_mask", "tokenizer_kwargs",
)
KNOWN = frozenset((
    "id", "messages", "source", "task", "language", "length", "length_tokens", "document", "title", "origin",
    "evidence", "support", "model", "prompt", "tools", "chat_template_kwargs", "parallel_tool_calls", "selection",
    "scores", "review", "merged_from",
))
# fmt: on
"""Fields of a row that has been read which are used, or which this package writes itself."""


def read_fields(row: Row, messages: Messages, where: str) -> Messages:
    """`messages` with the row's system prompt; `tools` and `chat_template_kwargs` are put right in the row.

    Raises `DataError` with file:line and field for what would change the prompt and is not understood.
    """
    for name in MEDIA:
        if row.get(name):
            raise DataError(f"{where}: field `{name}`: only text can be trained; take the field out")
    for name in OF_TEMPLATES:
        if row.get(name) is not None:
            raise DataError(f"{where}: field `{name}` belongs into `chat_template_kwargs`, as {{{name!r}: ...}}")
    if row.pop("history", None):
        raise DataError(f"{where}: field `history`: put these turns into the conversation, before its first question")
    _put(row, "tools", _tools(row, where))
    _put(row, "chat_template_kwargs", _template_kwargs(row.pop("chat_template_kwargs", None), where))
    return _with_system(row, messages, where)


def is_weighed_out(row: Row, where: str) -> bool:
    """Whether the row's own `weight` or `train`, taken out of it, is 0. Raises `DataError` for any but 0 and 1."""
    given = {name: row.pop(name) for name in ("weight", "train") if row.get(name) is not None}
    try:
        return not all(flag_of(value, where, name) for name, value in given.items())
    except DataError as error:
        raise DataError(f"{error}; a row that counts more is written more often") from None


def _put(row: Row, name: str, value: object) -> None:
    if value:
        row[name] = value


def _with_system(row: Row, messages: Messages, where: str) -> Messages:
    given = {name: row.pop(name) for name in SYSTEM if name in row}
    texts = {text: name for name, value in given.items() if value and (text := text_of(value, where, name)).strip()}
    if not texts:
        return messages
    if len(texts) > 1:
        raise DataError(f"{where}: fields {' and '.join(f'`{name}`' for name in texts.values())} differ; keep one")
    ((text, name),) = texts.items()
    if not messages or messages[0]["role"] not in ("system", "developer"):
        return [{"role": "system", "content": text}, *messages]
    if messages[0]["content"] != text:
        raise DataError(f"{where}: field `{name}` and the conversation's own system prompt differ; keep one")
    return messages


def _tools(row: Row, where: str) -> list[dict[str, Any]]:
    """Each as `{type: function, function: {name, ...}}`, the form that chat templates and endpoints take."""
    name = "tools" if row.get("tools") or not row.get("functions") else "functions"
    value, _ = row.pop(name, None), row.pop("functions", None)
    if isinstance(value, str):
        value = json_of(value, where, name) if value.strip() else None
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(f"{where}: field `{name}` is {kind_of(value)}; it must be a list of tools")
    return [_tool(json_of(tool, where, f"{name}[{at}]"), where, f"{name}[{at}]") for at, tool in enumerate(value)]


def _tool(tool: object, where: str, field: str) -> dict[str, Any]:
    if isinstance(tool, Mapping) and "function" not in tool and isinstance(tool.get("name"), str):
        schema = {key: value for key, value in tool.items() if not (key == "type" and value == "function")}
        tool = {"type": "function", "function": schema}
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(tool, Mapping) or not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise DataError(
            f"{where}: field `{field}` is no tool; it must be {{`type`: function, `function`: {{`name`, ...}}}}"
        )
    return dict(tool)


def _template_kwargs(value: object, where: str) -> dict[str, Any]:
    field = "chat_template_kwargs"
    if isinstance(value, str):
        value = json_of(value, where, field) if value.strip() else None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: field `{field}` is {kind_of(value)}; it must be an object, name to value")
    for name in value:
        if name in RESERVED or name.endswith("_token"):
            raise DataError(f"{where}: field `{field}.{name}` is set by the training itself; take it out")
        if not name.isidentifier():
            raise DataError(f"{where}: field `{field}` has the name {name!r:.40}, which no chat template can use")
    return dict(value)
