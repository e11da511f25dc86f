"""Reads the rows of a file as `messages`, cut at the first missing answer.

A field of the wrong shape is an error with file, line and field. A conversation without a usable answer is not an
error: it is left out and counted (the paper leaves out ShareGPT rows with empty assistant turns). Fields that nothing
uses are named once a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.base.progress import say
from longalign.data.row_counts import (
    CUT_AT_EMPTY,
    CUT_AT_SECOND,
    CUT_BEFORE,
    CUT_BEHIND,
    EMPTY_FIRST,
    NO_ANSWER,
    NO_QUESTION,
    NOT_TRAINED,
    READ,
    WEIGHED_OUT,
)
from longalign.data.row_fields import KNOWN, is_weighed_out, read_fields
from longalign.data.row_files import name_of, raw_rows
from longalign.data.row_formats import Messages, Row, format_of
from longalign.data.row_values import kind_of, text_of
from longalign.errors import DataError

NAMED_FIELDS = 12


def rows_of_file(path: Path | str, left_out: Counter[str] | None = None) -> Iterator[tuple[str, Row]]:
    """(where, row) of whatever `raw_rows` reads: `id`, `messages`, `source`, all other fields.

    `left_out` counts the rows read, and those left out or cut by reason (row_counts.py); who counts is also told which
    fields are not used. Raises `DataError` with file:line:field.
    """
    counted = left_out if left_out is not None else Counter()
    unused: dict[str, str] = {}
    try:
        for where, raw in raw_rows(path):
            counted[READ] += 1
            row = normalise(raw, where, counted)
            if row is None:
                continue
            for name in row.keys() - KNOWN - unused.keys():
                if row[name] is not None:
                    unused[name] = where
            yield where, _named(row, where, path)
    except GeneratorExit:
        _tell_unused(path, unused, left_out)
        raise
    _tell_unused(path, unused, left_out)


def _named(row: Row, where: str, path: Path | str) -> Row:
    if row.get("id") is None:
        try:
            row["id"] = fingerprint(row["messages"])[:16]
        except UnicodeEncodeError:
            raise DataError(f"{where}: field `messages` holds half a character (a lone surrogate); mend it") from None
    row["id"] = str(row["id"])
    row["source"] = row.get("source") or name_of(path)
    for name in ("id", "source", "task", "language"):  # what is noted of a row
        if isinstance(row.get(name), str):
            text_of(row[name], where, name)
    return row


def _tell_unused(path: Path | str, unused: Mapping[str, str], left_out: Counter[str] | None) -> None:
    if not unused or left_out is None:
        return
    names = list(unused)
    more = f" and {len(names) - NAMED_FIELDS} more" if len(names) > NAMED_FIELDS else ""
    first = unused[names[0]].removeprefix(str(path)).lstrip(": ")
    place = f"line {first}" if first.isdigit() else first
    say(f"{path}: fields not used: {', '.join(names[:NAMED_FIELDS])}{more} (first at {place})")


def normalise(raw: object, where: str, left_out: Counter[str] | None = None) -> Row | None:
    """One row of any form as `messages`; None when no question with an answer is left of it."""
    if not isinstance(raw, Mapping):
        raise DataError(f"{where}: a row is a JSON object, this is {kind_of(raw)}")
    count = left_out if left_out is not None else Counter()
    row = dict(raw)
    form = format_of(row, where)
    messages = read_fields(row, form.read(row, where), where)
    if is_weighed_out(row, where):
        count[WEIGHED_OUT] += 1
        return None
    row["messages"] = _usable(messages, where, collected=form.collected, count=count)
    return row if row["messages"] else None


def _usable(messages: Messages, where: str, *, collected: bool, count: Counter[str]) -> Messages:
    """The conversation up to its last good answer; empty when there is none.

    From the first empty answer on it is cut, since later turns refer to what is missing.
    """
    if collected:
        messages = _merged(_from_question(messages, count), count)
    whole = len(messages)
    for position, message in enumerate(messages):
        if message["role"] == "assistant" and not _has_content(message):
            messages = messages[:position]
            break
    cut = len(messages) < whole
    while messages and messages[-1]["role"] != "assistant":
        messages = messages[:-1]
    if not messages:
        count[EMPTY_FIRST if cut else NO_ANSWER] += 1
        return []
    if not any(message["role"] == "user" and _has_content(message) for message in messages):
        if collected:
            count[NO_QUESTION] += 1
            return []
        raise DataError(f"{where}: field `messages` has no user turn with content; each answer needs a question")
    if not any(message.get("train", True) for message in messages if message["role"] == "assistant"):
        count[NOT_TRAINED] += 1
        return []
    if len(messages) < whole:
        count[CUT_AT_EMPTY if cut else CUT_BEHIND] += 1
    return messages


def _from_question(messages: Messages, count: Counter[str]) -> Messages:
    """Without the assistant's turns that nobody asked for, at the beginning; a system prompt before them stays."""
    first = next((n for n, message in enumerate(messages) if message["role"] not in ("assistant", "system")), None)
    if first is None:
        first = len(messages)
    kept = [message for message in messages[:first] if message["role"] == "system"]
    if len(kept) < first:
        count[CUT_BEFORE] += 1
    return kept + messages[first:]


def _merged(messages: Messages, count: Counter[str]) -> Messages:
    merged: Messages = []
    for message in messages:
        before = merged[-1]["role"] if merged else None
        if before != message["role"] or before == "tool":
            merged.append(message)
        elif before == "assistant":
            count[CUT_AT_SECOND] += 1
            break  # two answers in a row: which one the later turns refer to is unknown
        else:
            merged[-1] = {**message, "content": f"{merged[-1]['content']}\n\n{message['content']}".strip()}
    return merged


def _has_content(message: Mapping[str, Any]) -> bool:
    return bool(message.get("tool_calls")) or bool(str(message.get("content") or "").strip())
