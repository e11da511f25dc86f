"""Rows or plain texts to a token store: which are drawn, how each becomes sequences, and what is counted.

`tokenize_rows` makes the store of a fine-tuning run. `tokenize_texts` makes the two stores of continued pretraining,
one to train on and one held out. It reads the texts twice: for their lengths, from which the held-out ones are chosen,
and to tokenise. Memory holds eight bytes a document and the chunks that the workers have; a single document must fit
as a whole.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import fingerprint, random_for
from longalign.base.progress import Progress, say
from longalign.data.overlong import Overlong, fit
from longalign.data.source import Source, Text, read_rows
from longalign.data.store import Encoded, Encoder, Item, TokenStore, build_store, finished_store
from longalign.data.tokenize import TURN_NOTICES, Thinking, check_tokenizer, sequence_of_row, tokenize_document, windows
from longalign.errors import DataError

CHUNK_ROWS = 128
CHUNK_CHARACTERS = 4_000_000
CHARACTERS_FOR_WORKERS = 20_000_000
"""Below this, starting processes takes longer than tokenising."""
CHARACTERS_OF_A_ROW = 5_000
"""A guess, for rows that are only counted."""


@cache
def worker_tokenizer(name: str) -> Any:
    """The tokenizer of this worker process, opened once."""
    from longalign.base.tokenizers import open_tokenizer

    return open_tokenizer(name, ends_text=True)


class KeyedEncoder(Protocol):
    """An encoder that a store can be found by again."""

    @property
    def key(self) -> str:
        """What of the encoder decides the tokens. The text is part of the keys of stores on disk: a name in it stays
        as it is when a class or field is renamed, and changes only when the tokens do."""
        ...

    def __call__(self, value: Any) -> Encoded: ...


@dataclass(frozen=True)
class RowEncoder:
    """Turns a data row into sequences that fit the window. Picklable: workers load the tokenizer themselves."""

    tokenizer: str
    window: int
    overlong: Overlong = "truncate_middle_of_document"
    train_on: Literal["all", "last"] = "all"
    thinking: Thinking = "keep"

    @property
    def key(self) -> str:
        """See `KeyedEncoder`."""
        return (
            f"RowEncoder(tokenizer={self.tokenizer!r}, window={self.window}, overlong={self.overlong!r}, "
            f"train_on={self.train_on!r}, thinking={self.thinking!r})"
        )

    def __call__(self, row: Mapping[str, Any]) -> Encoded:
        seen: Counter[str] = Counter()
        sequence = sequence_of_row(
            worker_tokenizer(self.tokenizer), row, train_on=self.train_on, thinking=self.thinking, counts=seen
        )
        kept, counts = fit(sequence, self.window, self.overlong)
        counts += seen
        note = {key: row[key] for key in ("id", "source", "task", "language") if row.get(key) is not None}
        return [(part, {**note, "where": row.get("_where")}) for part in kept], counts


def tokenize_rows(
    folder: Path, files: Mapping[str, int | None], encoder: RowEncoder, *, seed: int, stamp: str
) -> TokenStore:
    """The store of `files` (path -> rows to draw, None for all) in `folder`. `stamp` names the files' contents.

    Raises `DataError` naming file and row for whatever cannot be read or tokenised, before any training.
    """
    check_tokenizer(worker_tokenizer(encoder.tokenizer))
    key = fingerprint(stamp, encoder.key, dict(files), seed)
    if store := finished_store(folder, key):
        tell_of_turns(store)
        return store
    chosen = {path: draw(path, wanted, seed) for path, wanted in files.items()}
    total = sum(map(len, chosen.values()))
    if total == 0:
        why = f": none in {', '.join(files)}" if files else "; give row files with --data"
        raise DataError(f"no rows to train on{why}")
    size = total * CHARACTERS_OF_A_ROW
    store = tokenize(folder, items_of_rows(chosen), encoder, key=key, total=total, characters=size, unit="row")
    tell_of_turns(store)
    return store


def tell_of_turns(store: TokenStore) -> None:
    """Say, once for all rows, what their chat template leaves out of training."""
    for name, notice in TURN_NOTICES.items():
        if count := store.counts.get(name):
            say(f"targets: {count:,} {notice}")


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
    count = sum(1 for _ in read_rows(path))
    if wanted is None:
        return range(count)
    if wanted > count:
        raise DataError(f"{path}: {wanted} rows are wanted but it has {count}; ask for fewer or build more")
    return np.sort(random_for(seed, "rows", Path(path).name).choice(count, size=wanted, replace=False))


def items_of_rows(chosen: Mapping[str, Sequence[int] | NDArray[np.int64]]) -> Iterator[Item]:
    """The rows with these numbers, ascending, of each file."""
    for path, numbers in chosen.items():
        rows, name, passed = read_rows(path), Path(path).name, 0
        for number in numbers:
            row = next(islice(rows, number - passed, None))
            passed = number + 1
            where = f"{name} row {passed}"
            yield Item(where, {"source": Path(path).stem, **row, "_where": where})


MAX_HELDOUT_DOCUMENTS = 16
MIN_DOCUMENTS = 10
"""Of fewer documents none is held out."""


@dataclass(frozen=True)
class DocumentEncoder:
    """Turns a document into windows, every token a target."""

    tokenizer: str
    window: int

    @property
    def key(self) -> str:
        """See `KeyedEncoder`."""
        return f"DocumentEncoder(tokenizer={self.tokenizer!r}, window={self.window})"

    def __call__(self, document: Mapping[str, Any]) -> Encoded:
        parts = list(windows(tokenize_document(worker_tokenizer(self.tokenizer), document["text"]), self.window))
        note = {key: document[key] for key in ("id", "source", "title") if document.get(key)}
        counts = Counter({"windows": len(parts), "dropped_without_targets": int(not parts)})
        return [(part, note) for part in parts], +counts


@dataclass(frozen=True)
class MixedEncoder:
    """Documents and conversations in one store, each encoded in its own way."""

    documents: DocumentEncoder
    rows: RowEncoder

    @property
    def key(self) -> str:
        """See `KeyedEncoder`."""
        return f"MixedEncoder(documents={self.documents.key}, rows={self.rows.key})"

    def __call__(self, value: Mapping[str, Any]) -> Encoded:
        return self.rows(value) if "messages" in value else self.documents(value)


def tokenize_texts(
    texts: Sequence[str], rows: Mapping[str, int | None], folders: tuple[Path, Path], encoder: KeyedEncoder,
    *, stamp: str, seed: int,
) -> None:  # fmt: skip
    """Two stores in `folders`: of the documents of `texts` and the rows of `rows` (path -> rows to draw), and of the
    documents held out. Without any of those the second folder is not made.

    `stamp` names the contents of the files. What was tokenised before a kill is kept. Raises `DataError` naming file
    and row for what cannot be read, before anything is tokenised.
    """
    bundled = [fingerprint([source.documents_fingerprint()]) for source in map(Source, texts) if source.bundled]
    key = fingerprint(stamp, bundled, list(texts), encoder.key, dict(rows), seed)
    if finished_store(folders[0], key):
        return
    if texts:
        say("text: reading it once, to choose what is held out")
    lengths_N = np.array(array("q", (len(text.text) for text in read_texts(texts))), dtype=np.int64)
    if texts and not len(lengths_N):
        raise DataError(f"{', '.join(texts)}: no documents found; give .txt, .md, .jsonl or .parquet files")
    held = held_out(lengths_N, seed)
    if texts:
        say(f"text: {len(lengths_N):,} documents, {int(lengths_N.sum()):,} characters; {len(held)} held out")
    chosen = {path: draw(path, wanted, seed) for path, wanted in rows.items()}
    drawn = sum(map(len, chosen.values()))
    total, characters = len(lengths_N) - len(held) + drawn, int(lengths_N.sum()) + drawn * CHARACTERS_OF_A_ROW

    def items_of_texts() -> Iterator[Item]:
        """Those to train on. Held-out ones are tokenised in passing, so that the first store is never there alone."""
        aside = []
        for number, text in enumerate(read_texts(texts)):
            item = Item(text.where, asdict(text))
            if number not in held:
                yield item
                continue
            aside.append(item)
            if len(aside) == len(held):
                build_store(folders[1], [aside], encoder, key=key)

    items = chain(items_of_texts(), items_of_rows(chosen))
    tell_of_turns(tokenize(folders[0], items, encoder, key=key, total=total, characters=characters, unit="document"))


def read_texts(names: Sequence[str]) -> Iterator[Text]:
    """Documents of bundled corpora, files and folders, one after another."""
    return chain.from_iterable(Source(name).texts() for name in names)


def held_out(lengths_N: NDArray[np.int64], seed: int) -> frozenset[int]:
    """A fiftieth of the documents, at least one and at most 16, from the longest third; none of fewer than ten."""
    count = len(lengths_N)
    if count < MIN_DOCUMENTS:
        return frozenset()
    longest = np.argsort(-lengths_N, kind="stable")[: -(-count // 3)]
    wanted = min(max(count // 50, 1), MAX_HELDOUT_DOCUMENTS, len(longest))
    return frozenset(random_for(seed, "extend", "heldout").choice(longest, size=wanted, replace=False).tolist())
