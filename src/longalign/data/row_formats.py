"""The formats that people keep conversations in, each read into `messages`.

| format | fields | known from |
|---|---|---|
| messages | `messages`: [{`role`, `content`}], optional `length` | THUDM/LongAlign-10k, our own |
| ShareGPT | `conversations`: [{`from`, `value`}] | ShareGPT_Vicuna_unfiltered |
| LongAlpaca | `instruction`, optional `input`, `output` | Yukang/LongAlpaca-12k, Alpaca |
| completion | `prompt`, `completion` (or `response`) | many |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from longalign.errors import DataError

Row = dict[str, Any]
Messages = list[dict[str, Any]]
ROLES = ("system", "user", "assistant", "tool")
SPEAKERS = {
    "human": "user",
    "user": "user",
    "system": "system",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
}


@dataclass(frozen=True)
class RowFormat:
    """One form. `fields` recognise it; `read` takes them out of the row (and of what else it needs) and returns the
    messages; it is given `file:line` for its errors. `collected`: chats gathered from users, which may open with the
    assistant, repeat a speaker or hold no question."""

    fields: tuple[str, ...]
    read: Callable[[Row, str], Messages]
    collected: bool = False


def read_messages(row: Row, where: str) -> Messages:
    """`messages`, our own form."""
    return _messages(row["messages"], where)


def read_instruction(row: Row, where: str) -> Messages:
    """Alpaca's `instruction` and `input` are one question."""
    parts = [text_of(row.pop("instruction"), where, "instruction"), text_of(row.pop("input", "") or "", where, "input")]
    return _pair("\n\n".join(part for part in parts if part), text_of(row.pop("output"), where, "output"))


def read_sharegpt(row: Row, where: str) -> Messages:
    """Turns of `from` and `value`."""
    messages: Messages = []
    for position, item in enumerate(_list(row.pop("conversations"), where, "conversations", empty=True)):
        place = f"conversations[{position}]"
        if not isinstance(item, Mapping):
            raise DataError(f"{where}: field `{place}` is {kind_of(item)}; it must be {{`from`, `value`}}")
        speaker = item.get("from")
        if not isinstance(speaker, str) or speaker.lower() not in SPEAKERS:
            raise DataError(
                f"{where}: field `{place}.from` is {speaker!r}; it must be one of {', '.join(sorted(SPEAKERS))}"
            )
        messages.append(
            {"role": SPEAKERS[speaker.lower()], "content": text_of(item.get("value"), where, f"{place}.value")}
        )
    return messages


def read_completion(row: Row, where: str) -> Messages:
    """`prompt` with `completion` or `response`: texts, or lists of messages."""
    name = "completion" if "completion" in row else "response"
    prompt, completion = row.pop("prompt"), row.pop(name)
    if isinstance(prompt, list):
        return _messages(prompt, where) + (
            _messages(completion, where)
            if isinstance(completion, list)
            else [{"role": "assistant", "content": text_of(completion, where, name)}]
        )
    return _pair(text_of(prompt, where, "prompt"), text_of(completion, where, name))


ROW_FORMATS: dict[str, RowFormat] = {
    "messages": RowFormat(("messages",), read_messages),
    "sharegpt": RowFormat(("conversations",), read_sharegpt, collected=True),
    "alpaca": RowFormat(("instruction", "output"), read_instruction),
    "completion": RowFormat(("prompt", "completion"), read_completion),
    "response": RowFormat(("prompt", "response"), read_completion),
}
"""By name, in order: the first whose fields a row has reads it. A new format is a function and a line here."""


def format_of(row: Mapping[str, Any], where: str) -> RowFormat:
    """The form of a row. Raises `DataError` that names the fields of every form."""
    for known in ROW_FORMATS.values():
        if all(field in row for field in known.fields):
            return known
    found = ", ".join(f"`{key}`" for key in list(row)[:6]) or "no fields"
    *forms, last = (" with ".join(f"`{field}`" for field in known.fields) for known in ROW_FORMATS.values())
    raise DataError(f"{where}: no conversation here (found {found}); a row needs {', '.join(forms)} or {last}")


def _messages(value: object, where: str) -> Messages:
    messages = []
    for position, item in enumerate(_list(value, where, "messages")):
        place = f"messages[{position}]"
        if not isinstance(item, Mapping):
            raise DataError(f"{where}: field `{place}` is {kind_of(item)}; it must be {{`role`, `content`}}")
        role = item.get("role")
        if role not in ROLES:
            raise DataError(f"{where}: field `{place}.role` is {role!r}; it must be one of {', '.join(ROLES)}")
        if not (item.get("content") is None and item.get("tool_calls")):
            text_of(item.get("content"), where, f"{place}.content")
        messages.append(dict(item))
    return messages


def _pair(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _list(value: object, where: str, field: str, *, empty: bool = False) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: field `{field}` is {kind_of(value)}; it must be a list of turns")
    if not value and not empty:
        raise DataError(f"{where}: field `{field}` is empty; it needs at least one question and its answer")
    return value


def text_of(value: object, where: str, field: str) -> str:
    """The value of a field that must be text. Raises `DataError` with file:line and field."""
    if not isinstance(value, str):
        raise DataError(f"{where}: field `{field}` is {kind_of(value)}; it must be text")
    return value


def kind_of(value: object) -> str:
    """How a message calls a value of the wrong type."""
    return "missing" if value is None else f"a {type(value).__name__}"
