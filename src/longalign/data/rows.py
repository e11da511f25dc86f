"""Conversations in the forms people have them, read as rows of `messages`.

| form | fields | known from |
|---|---|---|
| messages | `messages`: [{`role`, `content`}], optional `length` | THUDM/LongAlign-10k, our own |
| ShareGPT | `conversations`: [{`from`, `value`}] | ShareGPT_Vicuna_unfiltered |
| LongAlpaca | `instruction`, optional `input`, `output` | Yukang/LongAlpaca-12k, Alpaca |
| completion | `prompt`, `completion` (or `response`) | many |

A field of the wrong shape is an error with file, line and field. A conversation without a usable answer is no error:
it is left out and counted (the paper leaves ShareGPT rows with empty assistant turns out).
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.base.sources import is_builtin
from longalign.errors import DataError

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
FORMS = "`messages`, `conversations`, `instruction` with `output`, or `prompt` with `completion`"


def read_rows(path: str | Path, *, left_out: Counter[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl (or .json list, also .gz) file or bundled set: `id`, `messages`, `source`, all other fields.

    `left_out` counts conversations without a usable answer by reason. Raises `DataError` with file:line:field.
    """
    if is_builtin(str(path)):
        from longalign.bundled.rows import rows

        yield from rows(str(path))
        return
    for where, raw in _raw_rows(Path(path)):
        row = normalise(raw, where, left_out)
        if row is not None:
            row.setdefault("id", fingerprint(row["messages"])[:16])
            row["id"] = str(row["id"])
            row["source"] = row.get("source") or _stem(Path(path))
            yield row


def normalise(raw: object, where: str, left_out: Counter[str] | None = None) -> dict[str, Any] | None:
    """One row of any form as `messages`; None when no question with an answer is left of it."""
    if not isinstance(raw, Mapping):
        raise DataError(f"{where}: a row is a JSON object, this is {_kind(raw)}")
    row = dict(raw)
    dirty = False
    if "messages" in row:
        messages = _messages(row["messages"], where)
    elif "conversations" in row:
        messages = _share_gpt(row.pop("conversations"), where)
        dirty = True
    elif "instruction" in row and "output" in row:
        parts = [_text(row.pop("instruction"), where, "instruction"), _text(row.pop("input", "") or "", where, "input")]
        messages = _pair("\n\n".join(part for part in parts if part), _text(row.pop("output"), where, "output"))
    elif "prompt" in row and ("completion" in row or "response" in row):
        name = "completion" if "completion" in row else "response"
        messages = _prompt(row.pop("prompt"), row.pop(name), where, name)
    else:
        found = ", ".join(f"`{key}`" for key in list(row)[:6]) or "no fields"
        raise DataError(f"{where}: no conversation here (found {found}); a row needs {FORMS}")
    row["messages"] = _usable(messages, where, dirty=dirty, left_out=left_out)
    return row if row["messages"] else None


def _usable(
    messages: list[dict[str, Any]], where: str, *, dirty: bool, left_out: Counter[str] | None
) -> list[dict[str, Any]]:
    """The conversation up to its last good answer; empty when there is none.

    From the first empty answer on it is cut, since later turns refer to what is missing.
    """
    count = left_out if left_out is not None else Counter()
    if dirty:  # collected chats may open with the assistant, or repeat a speaker
        while messages and messages[0]["role"] == "assistant":
            messages = messages[1:]
        messages = _merged(messages)
    for position, message in enumerate(messages):
        if message["role"] == "assistant" and not _has_content(message):
            count["cut at an empty assistant turn"] += 1
            messages = messages[:position]
            break
    while messages and messages[-1]["role"] != "assistant":
        messages = messages[:-1]
    if not messages:
        count["no answer in the conversation"] += 1
        return []
    if not any(message["role"] == "user" and _has_content(message) for message in messages):
        if dirty:
            count["no question in the conversation"] += 1
            return []
        raise DataError(f"{where}: field `messages` has no user turn with content; each answer needs a question")
    return messages


def _merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged: list[dict[str, Any]] = []
    for message in messages:
        if merged and merged[-1]["role"] == message["role"] != "assistant":
            merged[-1] = {**message, "content": f"{merged[-1]['content']}\n\n{message['content']}".strip()}
        elif merged and merged[-1]["role"] == message["role"] == "assistant":
            break  # two answers in a row: which one the later turns refer to is unknown
        else:
            merged.append(message)
    return merged


def _messages(value: object, where: str) -> list[dict[str, Any]]:
    messages = []
    for position, item in enumerate(_list(value, where, "messages")):
        place = f"messages[{position}]"
        if not isinstance(item, Mapping):
            raise DataError(f"{where}: field `{place}` is {_kind(item)}; it must be {{`role`, `content`}}")
        role = item.get("role")
        if role not in ROLES:
            raise DataError(f"{where}: field `{place}.role` is {role!r}; it must be one of {', '.join(ROLES)}")
        if not (item.get("content") is None and item.get("tool_calls")):
            _text(item.get("content"), where, f"{place}.content")
        messages.append(dict(item))
    return messages


def _share_gpt(value: object, where: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for position, item in enumerate(_list(value, where, "conversations", empty=True)):
        place = f"conversations[{position}]"
        if not isinstance(item, Mapping):
            raise DataError(f"{where}: field `{place}` is {_kind(item)}; it must be {{`from`, `value`}}")
        speaker = item.get("from")
        if not isinstance(speaker, str) or speaker.lower() not in SPEAKERS:
            raise DataError(
                f"{where}: field `{place}.from` is {speaker!r}; it must be one of {', '.join(sorted(SPEAKERS))}"
            )
        messages.append(
            {"role": SPEAKERS[speaker.lower()], "content": _text(item.get("value"), where, f"{place}.value")}
        )
    return messages


def _prompt(prompt: object, completion: object, where: str, name: str) -> list[dict[str, Any]]:
    if isinstance(prompt, list):  # conversational prompt-completion rows
        return _messages(prompt, where) + (
            _messages(completion, where)
            if isinstance(completion, list)
            else [{"role": "assistant", "content": _text(completion, where, name)}]
        )
    return _pair(_text(prompt, where, "prompt"), _text(completion, where, name))


def _pair(question: str, answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _has_content(message: Mapping[str, Any]) -> bool:
    return bool(message.get("tool_calls")) or bool(str(message.get("content") or "").strip())


def _list(value: object, where: str, field: str, *, empty: bool = False) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: field `{field}` is {_kind(value)}; it must be a list of turns")
    if not value and not empty:
        raise DataError(f"{where}: field `{field}` is empty; it needs at least one question and its answer")
    return value


def _text(value: object, where: str, field: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: field `{field}` is {_kind(value)}; it must be text")
    return value


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


def _raw_rows(path: Path) -> Iterator[tuple[str, object]]:
    if not path.is_file():
        what = "a folder, not a row file" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {what}; give a .jsonl file of rows")
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            if path.name.removesuffix(".gz").endswith(".json"):
                yield from _json_rows(path, stream.read())
                return
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield f"{path}:{number}", _parse(line, f"{path}:{number}")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert it first") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, object]]:
    try:
        value = json.loads(text)
    except ValueError:  # JSON lines under a .json name
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield f"{path}:{number}", _parse(line, f"{path}:{number}")
        return
    for number, row in enumerate(value if isinstance(value, list) else [value], 1):
        yield f"{path}: row {number}", row


def _parse(line: str, where: str) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); each line must be one JSON object") from None


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]
