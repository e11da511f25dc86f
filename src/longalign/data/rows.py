"""Reads the rows of a file as `messages`, cut at the first missing answer.

A field of the wrong shape is an error with file, line and field. A conversation without a usable answer is not an
error: it is left out and counted (the paper leaves out ShareGPT rows with empty assistant turns).
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.data.file_text import parsed_lines
from longalign.data.row_formats import Messages, Row, format_of, kind_of
from longalign.errors import DataError


def rows_of_file(path: Path, left_out: Counter[str] | None = None) -> Iterator[Row]:
    """The rows of a .jsonl (or .json list, also .gz) file: `id`, `messages`, `source`, all other fields.

    `left_out` counts conversations without a usable answer by reason. Raises `DataError` with file:line:field.
    """
    for where, raw in _raw_rows(path):
        row = normalise(raw, where, left_out)
        if row is not None:
            row.setdefault("id", fingerprint(row["messages"])[:16])
            row["id"] = str(row["id"])
            row["source"] = row.get("source") or _stem(path)
            yield row


def normalise(raw: object, where: str, left_out: Counter[str] | None = None) -> Row | None:
    """One row of any form as `messages`; None when no question with an answer is left of it."""
    if not isinstance(raw, Mapping):
        raise DataError(f"{where}: a row is a JSON object, this is {kind_of(raw)}")
    row = dict(raw)
    form = format_of(row, where)
    messages = form.read(row, where)
    row["messages"] = _usable(messages, where, collected=form.collected, left_out=left_out)
    return row if row["messages"] else None


def _usable(messages: Messages, where: str, *, collected: bool, left_out: Counter[str] | None) -> Messages:
    """The conversation up to its last good answer; empty when there is none.

    From the first empty answer on it is cut, since later turns refer to what is missing.
    """
    count = left_out if left_out is not None else Counter()
    if collected:
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
        if collected:
            count["no question in the conversation"] += 1
            return []
        raise DataError(f"{where}: field `messages` has no user turn with content; each answer needs a question")
    return messages


def _merged(messages: Messages) -> Messages:
    merged: Messages = []
    for message in messages:
        if merged and merged[-1]["role"] == message["role"] != "assistant":
            merged[-1] = {**message, "content": f"{merged[-1]['content']}\n\n{message['content']}".strip()}
        elif merged and merged[-1]["role"] == message["role"] == "assistant":
            break  # two answers in a row: which one the later turns refer to is unknown
        else:
            merged.append(message)
    return merged


def _has_content(message: Mapping[str, Any]) -> bool:
    return bool(message.get("tool_calls")) or bool(str(message.get("content") or "").strip())


def _raw_rows(path: Path) -> Iterator[tuple[str, object]]:
    if not path.is_file():
        what = "a folder, not a row file" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {what}; give a .jsonl file of rows")
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
            if path.name.removesuffix(".gz").endswith(".json"):
                yield from _json_rows(path, stream.read())
                return
            for number, row in parsed_lines(stream, path):
                yield f"{path}:{number}", row
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert it first") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, object]]:
    try:
        value = json.loads(text)
    except ValueError:  # JSON lines under a .json name
        for number, row in parsed_lines(text.split("\n"), path):
            yield f"{path}:{number}", row
        return
    for number, row in enumerate(value if isinstance(value, list) else [value], 1):
        yield f"{path}: row {number}", row


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rsplit(".", 1)[0]
