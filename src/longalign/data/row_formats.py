"""The formats that people keep conversations in, each read into `messages`.

| format | fields | known from |
|---|---|---|
| messages | `messages`: [{`role`, `content`}], optional `length` | THUDM/LongAlign-10k, OpenAI, our own |
| ShareGPT | `conversations`: [{`from`, `value`}] | ShareGPT_Vicuna_unfiltered |
| LongAlpaca | `instruction`, optional `input` and `history`, `output` | Yukang/LongAlpaca-12k, Alpaca, LLaMA-Factory |
| completion | `prompt`, `completion` (or `response`), texts or lists of messages | many |

What stands beside the conversation (`system`, `tools`, ...) is read by row_fields.py, whatever the format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from longalign.data.row_turns import Messages, read_turns
from longalign.data.row_values import json_of, kind_of, text_of
from longalign.errors import DataError

__all__ = ["ROW_FORMATS", "Messages", "Row", "RowFormat", "format_of", "text_of"]

Row = dict[str, Any]
PREFERENCES = ("chosen", "rejected")
TOKENS = ("input_ids", "labels")


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
    return read_turns(row["messages"], where, "messages")


def read_instruction(row: Row, where: str) -> Messages:
    """Alpaca's `instruction` and `input` are one question."""
    parts = [text_of(row.pop("instruction"), where, "instruction"), text_of(row.pop("input", "") or "", where, "input")]
    question = "\n\n".join(part for part in parts if part)
    return _history(row, where) + _pair(question, text_of(row.pop("output"), where, "output"))


def read_sharegpt(row: Row, where: str) -> Messages:
    """Turns of `from` and `value`."""
    return read_turns(row.pop("conversations"), where, "conversations", empty=True)


def read_completion(row: Row, where: str) -> Messages:
    """`prompt` with `completion` or `response`: texts, or lists of messages."""
    name = "completion" if "completion" in row else "response"
    prompt, completion = row.pop("prompt"), row.pop(name)
    if row.get("label") is False:
        raise DataError(f"{where}: field `label` is false: {_PREFERENCE}; leave the row out")
    answer = (
        read_turns(completion, where, name)
        if isinstance(completion, list)
        else _pair("", text_of(completion, where, name))[1:]
    )
    if isinstance(prompt, list):
        return read_turns(prompt, where, "prompt") + answer
    return _history(row, where) + _pair(text_of(prompt, where, "prompt"), "")[:1] + answer


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
    if found := [f"`{name}`" for name in PREFERENCES if name in row]:
        raise DataError(f"{where}: field {' and '.join(found)}: {_PREFERENCE}; give what was chosen as `completion`")
    if found := [f"`{name}`" for name in TOKENS if name in row]:
        raise DataError(f"{where}: field {found[0]}: rows of tokens are not read; give the conversation as `messages`")
    if "text" in row:
        hint = "; plain texts are for `longalign extend --text`"
    else:
        hint = ""
    names = ", ".join(f"`{key}`" for key in list(row)[:6]) or "no fields"
    *forms, last = (" with ".join(f"`{field}`" for field in known.fields) for known in ROW_FORMATS.values())
    raise DataError(f"{where}: no conversation here (found {names}); a row needs {', '.join(forms)} or {last}{hint}")


_PREFERENCE = "preferences between answers are not trained here, only answers"


def _pair(question: str, answer: str) -> Messages:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _history(row: Row, where: str) -> Messages:
    """LLaMA-Factory's `history`: earlier questions with their answers, [[question, answer], ...]."""
    pairs = row.pop("history", None)
    pairs = json_of(pairs, where, "history") if pairs else []
    if not isinstance(pairs, list):
        raise DataError(f"{where}: field `history` is {kind_of(pairs)}; it must be a list of [question, answer]")
    messages: Messages = []
    for position, pair in enumerate(pairs):
        place = f"history[{position}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise DataError(f"{where}: field `{place}` is not [question, answer]")
        messages += _pair(*(text_of(text, where, f"{place}[{side}]") for side, text in enumerate(pair)))
    return messages
