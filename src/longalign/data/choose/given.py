"""Rows of any form that training reads, each beside what was written: `select`, `stats`, `diff`, `merge`, `sample`.

A row is read as training reads it (`normalise`) and passed on as it was written, so nothing is lost on the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.data.row_counts import LEFT_OUT, READ
from longalign.data.row_files import name_of, raw_rows
from longalign.data.rows import normalise
from longalign.data.source import Source
from longalign.errors import DataError
from longalign.llm.prompt import GAP

Row = dict[str, Any]


@dataclass(frozen=True)
class Given:
    """One row. `where`: file:line; `raw`: as written; `row`: as training reads it, with `id`, `messages`, `source`."""

    where: str
    raw: Row
    row: Row

    @property
    def id(self) -> str:
        return str(self.row["id"])


def read_given(
    name: str, counted: Counter[str] | None = None, unusable: list[tuple[str, str]] | None = None
) -> Iterator[Given]:
    """The usable rows of a file, folder, data set of the hub or bundled set; `counted` gets those left out, by reason
    (row_counts.py), `unusable` each of them with its place. Raises `DataError` with file:line:field."""
    counts = counted if counted is not None else Counter()
    if Source(name).bundled:
        for where, row in Source(name).placed_rows(counts):
            yield Given(where, row, _named(dict(row), where, name))
        return
    for where, raw in raw_rows(name):
        counts[READ] += 1
        before = {reason: counts[reason] for reason in LEFT_OUT}
        read = normalise(raw, where, counts)
        short = where.replace(name, Path(name).name, 1)
        if read is not None and isinstance(raw, Mapping):
            yield Given(short, dict(raw), _named(read, where, name))
        elif unusable is not None:
            unusable.append((short, next(reason for reason in LEFT_OUT if counts[reason] > before[reason])))


def _named(row: Row, where: str, name: str) -> Row:
    try:
        row["id"] = str(row["id"]) if row.get("id") is not None else fingerprint(row["messages"])[:16]
    except UnicodeEncodeError:
        raise DataError(f"{where}: field `messages` holds half a character (a lone surrogate); mend it") from None
    row["source"] = row.get("source") or name_of(name)
    return row


def content_key(row: Mapping[str, Any]) -> str:
    """Names what a row teaches: its conversation, tools and template variables, 64 bits in hexadecimal."""
    return fingerprint(row["messages"], row.get("tools"), row.get("chat_template_kwargs"))[:16]


def document_place(row: Mapping[str, Any]) -> int:
    """Index of the message that holds the document: the longest of the user's."""
    users = [place for place, message in enumerate(row["messages"]) if message["role"] == "user"]
    return max(users, key=lambda place: (len(text_in(row, place)), -place))


def text_in(row: Mapping[str, Any], place: int) -> str:
    """The text of one message."""
    return str(row["messages"][place].get("content") or "")


def document_and_question(row: Mapping[str, Any]) -> tuple[str, str]:
    """The message with the document, parted at its last blank line. Without one, all of it is the question."""
    document, _, question = text_in(row, document_place(row)).rpartition(GAP)
    return document, question


def questions_of(row: Mapping[str, Any]) -> list[str]:
    """What the user asks, one a user message, without the document."""
    place = document_place(row)
    asked = []
    for at, message in enumerate(row["messages"]):
        if message["role"] == "user":
            asked.append(document_and_question(row)[1] if at == place else text_in(row, at))
    return asked


def answers_of(row: Mapping[str, Any]) -> list[str]:
    """The assistant's texts."""
    return [text_in(row, at) for at, message in enumerate(row["messages"]) if message["role"] == "assistant"]


def document_id(row: Mapping[str, Any]) -> str:
    """What the row's document is called, or the hash of its text; empty for a row without one."""
    if isinstance(row.get("document"), str) and row["document"]:
        return str(row["document"])
    document, _ = document_and_question(row)
    return fingerprint(document)[:16] if document else ""
