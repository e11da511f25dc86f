"""From row files to a token store: which rows are drawn, how each becomes sequences, and what is counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from longalign.data.overlong import Overlong, fit
from longalign.data.store import Encoded, Item, TokenStore, build_store
from longalign.data.tokenize import Thinking, check_tokenizer, sequence_of_row, tokenize_document, windows
from longalign.errors import DataError
from longalign.progress import Progress
from longalign.run import fingerprint, random_for

CHUNK_ROWS = 128
ROWS_FOR_WORKERS = 4000
"""Below this, starting processes takes longer than tokenising."""


@cache
def _tokenizer(path: str) -> Any:
    from longalign.train.model import load_tokenizer

    return load_tokenizer(path)


@dataclass(frozen=True)
class RowEncoder:
    """Turns a data row into sequences that fit the window. Picklable: workers load the tokenizer themselves."""

    tokenizer: str
    window: int
    overlong: Overlong = "truncate_middle_of_document"
    train_on: Literal["all", "last"] = "all"
    thinking: Thinking = "keep"

    def __call__(self, row: Mapping[str, Any]) -> Encoded:
        sequence = sequence_of_row(_tokenizer(self.tokenizer), row, train_on=self.train_on, thinking=self.thinking)
        kept, counts = fit(sequence, self.window, self.overlong)
        note = {key: row[key] for key in ("id", "source", "task", "language") if row.get(key) is not None}
        return [(part, {**note, "where": row.get("_where")}) for part in kept], counts


@dataclass(frozen=True)
class DocumentEncoder:
    """Turns a document into windows, every token a target."""

    tokenizer: str
    window: int

    def __call__(self, document: Mapping[str, Any]) -> Encoded:
        parts = list(windows(tokenize_document(_tokenizer(self.tokenizer), document["text"]), self.window))
        note = {key: document[key] for key in ("id", "source", "title") if document.get(key)}
        counts = Counter({"windows": len(parts), "dropped_without_targets": int(not parts)})
        return [(part, note) for part in parts], +counts


@dataclass(frozen=True)
class MixedEncoder:
    """Documents and conversations in one store, each encoded in its own way."""

    documents: DocumentEncoder
    rows: RowEncoder

    def __call__(self, value: Mapping[str, Any]) -> Encoded:
        return self.rows(value) if "messages" in value else self.documents(value)


def tokenize_rows(
    folder: Path, files: Mapping[str, int | None], encoder: RowEncoder, *, seed: int, stamp: str
) -> TokenStore:
    """The store of `files` (path -> rows to draw, None for all) in `folder`. `stamp` names the files' contents.

    Raises `DataError` naming file and row for whatever cannot be read or tokenised, before any training.
    """
    check_tokenizer(_tokenizer(encoder.tokenizer))
    chosen = {path: _draw(path, wanted, seed) for path, wanted in files.items()}
    total = sum(len(rows) for rows in chosen.values())
    if total == 0:
        raise DataError("no rows to train on; give row files with --data")
    key = fingerprint(stamp, encoder, dict(files), seed)
    return _build(folder, _items(chosen), encoder, key=key, total=total, unit="row")


def tokenize_documents(
    folder: Path,
    documents: Sequence[Mapping[str, Any]],
    encoder: MixedEncoder,
    *,
    stamp: str,
    rows: Mapping[str, int | None] = MappingProxyType({}),
    seed: int = 0,
) -> TokenStore:
    """The store of plain documents (`id`, `text`, `source`, `title`), cut into windows, and of conversations if any."""
    chosen = {path: _draw(path, wanted, seed) for path, wanted in rows.items()}
    items = chain((Item(str(d.get("title") or d["id"]), d) for d in documents), _items(chosen))
    key = fingerprint(stamp, encoder, [d["id"] for d in documents], dict(rows), seed)
    total = len(documents) + sum(len(numbers) for numbers in chosen.values())
    return _build(folder, items, encoder, key=key, total=total, unit="document")


def _build(folder: Path, items: Iterator[Item], encoder: Any, *, key: str, total: int, unit: str) -> TokenStore:
    workers = 1 if total < ROWS_FOR_WORKERS else min(os.cpu_count() or 1, 16)
    with Progress("tokenise", total=total, unit=unit) as bar:
        return build_store(folder, _chunks(items), encoder, key=key, workers=workers, on_chunk=bar.advance)


def _chunks(items: Iterator[Item]) -> Iterator[list[Item]]:
    while chunk := list(islice(items, CHUNK_ROWS)):
        yield chunk


def _draw(path: str, wanted: int | None, seed: int) -> Sequence[int]:
    """Row numbers to use of a file, ascending; reads the whole file once, so that errors show early."""
    from longalign.data.formats import read_rows

    count = sum(1 for _ in read_rows(path))
    if wanted is None:
        return range(count)
    if wanted > count:
        raise DataError(f"{path}: {wanted} rows are wanted but it has {count}; ask for fewer or build more")
    drawn = random_for(seed, "rows", Path(path).name).choice(count, size=wanted, replace=False)
    return sorted(drawn.tolist())


def _items(chosen: Mapping[str, Sequence[int]]) -> Iterator[Item]:
    from longalign.data.formats import read_rows

    for path, numbers in chosen.items():
        wanted = set(numbers)
        name = Path(path).name
        for number, row in enumerate(read_rows(path)):
            if number in wanted:
                where = f"{name} row {number + 1}"
                yield Item(where, {"source": Path(path).stem, **row, "_where": where})
