"""From row files to a token store: which rows are drawn, how each becomes sequences, and what is counted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from longalign.data.overlong import Overlong, fit
from longalign.data.store import Encoded, Encoder, Item, TokenStore, build_store, finished_store
from longalign.data.tokenize import Thinking, check_tokenizer, sequence_of_row
from longalign.errors import DataError
from longalign.progress import Progress
from longalign.run import fingerprint, random_for

CHUNK_ROWS = 128
CHUNK_CHARACTERS = 4_000_000
CHARACTERS_FOR_WORKERS = 20_000_000
"""Below this, starting processes takes longer than tokenising."""
CHARACTERS_OF_A_ROW = 5_000
"""A guess, for rows that are only counted."""


@cache
def open_tokenizer(path: str) -> Any:
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
        sequence = sequence_of_row(open_tokenizer(self.tokenizer), row, train_on=self.train_on, thinking=self.thinking)
        kept, counts = fit(sequence, self.window, self.overlong)
        note = {key: row[key] for key in ("id", "source", "task", "language") if row.get(key) is not None}
        return [(part, {**note, "where": row.get("_where")}) for part in kept], counts


def tokenize_rows(
    folder: Path, files: Mapping[str, int | None], encoder: RowEncoder, *, seed: int, stamp: str
) -> TokenStore:
    """The store of `files` (path -> rows to draw, None for all) in `folder`. `stamp` names the files' contents.

    Raises `DataError` naming file and row for whatever cannot be read or tokenised, before any training.
    """
    check_tokenizer(open_tokenizer(encoder.tokenizer))
    key = fingerprint(stamp, encoder, dict(files), seed)
    if store := finished_store(folder, key):
        return store
    chosen = {path: draw(path, wanted, seed) for path, wanted in files.items()}
    total = sum(map(len, chosen.values()))
    if total == 0:
        why = f": none in {', '.join(files)}" if files else "; give row files with --data"
        raise DataError(f"no rows to train on{why}")
    size = total * CHARACTERS_OF_A_ROW
    return tokenize(folder, items_of_rows(chosen), encoder, key=key, total=total, characters=size, unit="row")


def tokenize(
    folder: Path, items: Iterable[Item], encoder: Encoder, *, key: str, total: int, characters: int, unit: str
) -> TokenStore:
    """`build_store` of `total` items with progress, in several processes where `characters` (about) pay for them."""
    workers = 1 if characters < CHARACTERS_FOR_WORKERS else min(os.cpu_count() or 1, 16)
    with Progress("tokenise", total=total, unit=unit) as bar:
        return build_store(folder, _chunks(items), encoder, key=key, workers=workers, on_chunk=bar.advance)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Bounded in rows, so that progress shows, and in characters, so that memory does not depend on their length."""
    chunk: list[Item] = []
    characters = 0
    for item in items:
        chunk.append(item)
        characters += _characters(item.value)
        if len(chunk) == CHUNK_ROWS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _characters(value: Mapping[str, Any]) -> int:
    if "messages" in value:
        return sum(len(str(message.get("content") or "")) for message in value["messages"])
    return len(value["text"])


def draw(path: str, wanted: int | None, seed: int) -> Sequence[int] | NDArray[np.int64]:
    """Row numbers to use of a file, ascending; reads the whole file once, so that errors show early."""
    from longalign.data.formats import read_rows

    count = sum(1 for _ in read_rows(path))
    if wanted is None:
        return range(count)
    if wanted > count:
        raise DataError(f"{path}: {wanted} rows are wanted but it has {count}; ask for fewer or build more")
    return np.sort(random_for(seed, "rows", Path(path).name).choice(count, size=wanted, replace=False))


def items_of_rows(chosen: Mapping[str, Sequence[int] | NDArray[np.int64]]) -> Iterator[Item]:
    """The rows with these numbers, ascending, of each file."""
    from longalign.data.formats import read_rows

    for path, numbers in chosen.items():
        rows, name, passed = read_rows(path), Path(path).name, 0
        for number in numbers:
            row = next(islice(rows, number - passed, None))
            passed = number + 1
            where = f"{name} row {passed}"
            yield Item(where, {"source": Path(path).stem, **row, "_where": where})
