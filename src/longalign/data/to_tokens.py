"""Rows or plain texts to a token store: how each becomes sequences, and what is counted. Which rows: data/mix.py.

`tokenize_rows` makes the store of a fine-tuning run. `tokenize_texts` makes the two stores of continued pretraining,
one to train on and one held out. It reads the texts twice: for their lengths, from which the held-out ones are chosen,
and to tokenise. Memory holds eight bytes a document and the chunks that the workers have; a single document must fit
as a whole.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import fingerprint, random_for
from longalign.base.progress import say
from longalign.config.mix import Amount
from longalign.data.chunks import tokenize
from longalign.data.drawn import CHARACTERS_OF_A_ROW, Drawn, store_key
from longalign.data.mix import Unit
from longalign.data.overlong import Overlong, fit
from longalign.data.pool import COPIES, FILE, EncodedOr, KeyedEncoder, copies
from longalign.data.row_counts import reasons
from longalign.data.source import Source, Text
from longalign.data.store import Encoded, Item, TokenStore, build_store, finished_store
from longalign.data.template_rows import unused_kwargs
from longalign.data.tokenize import Thinking, check_tokenizer, say_notices, sequence_of_row, tokenize_document, windows
from longalign.errors import DataError


@cache
def worker_tokenizer(name: str) -> Any:
    """The tokenizer of this worker process, opened once."""
    from longalign.base.tokenizers import open_tokenizer

    return open_tokenizer(name, ends_text=True)


READING = 2
"""Of the rules by which rows become targets. 1: until 0.1, where some templates' questions were targets."""


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
            f"train_on={self.train_on!r}, thinking={self.thinking!r}, reading={READING})"
        )

    def __call__(self, row: Mapping[str, Any]) -> Encoded:
        tokenizer = worker_tokenizer(self.tokenizer)
        seen: Counter[str] = Counter()
        sequence = sequence_of_row(tokenizer, row, train_on=self.train_on, thinking=self.thinking, counts=seen)
        kept, counts = fit(sequence, self.window, self.overlong)
        counts += seen
        counts.update(f"chat_template_kwargs.{name} without effect" for name in unused_kwargs(tokenizer, row))
        note = {key: row[key] for key in ("id", "source", "task", "language") if row.get(key) is not None}
        note |= {"where": row.get("_where")} | ({"file": row[FILE]} if FILE in row else {})
        return copies(([(part, note) for part in kept], counts), row.get(COPIES, 1))


def tokenize_rows(
    folder: Path, files: Mapping[str, Amount], encoder: RowEncoder, *, seed: int, stamp: str,
    mix_by: Unit = "rows", mix_total: int | None = None, kept: Path | None = None,
) -> TokenStore:  # fmt: skip
    """The store of `files` (path -> how much of it, None for all) in `folder`, or in `kept` if it is there already.
    `stamp` names the files' contents.

    Raises `DataError` naming file and row for whatever cannot be read or tokenised, before any training.
    """
    check_tokenizer(worker_tokenizer(encoder.tokenizer))
    key = store_key(stamp, encoder.key, files, seed, mix_by=mix_by, mix_total=mix_total)
    if store := finished_store(kept or folder, key) or finished_store(folder, key):
        say_notices(store.counts)
        return store
    drawn = Drawn.of(folder, files, encoder, seed=seed, stamp=stamp, by=mix_by, total=mix_total)
    if drawn.rows == 0:
        why = f": none in {', '.join(files)}" if files else "; give row files with --data"
        left_out = reasons(drawn.read.values())
        raise DataError(f"no rows to train on{why}" + (f" (left out: {left_out})" if left_out else ""))
    size = drawn.rows * CHARACTERS_OF_A_ROW
    encode = EncodedOr(encoder)
    store = tokenize(
        folder, drawn.items(), encode, key=key, total=drawn.rows, characters=size, unit="row", about=drawn.about
    )
    drawn.close()
    say_notices(store.counts)
    return store


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
    texts: Sequence[str], rows: Mapping[str, Amount], folders: tuple[Path, Path], encoder: KeyedEncoder,
    *, stamp: str, seed: int, mix_by: Unit = "rows", mix_total: int | None = None,
    kept: tuple[Path, Path] | None = None,
) -> tuple[Path, Path]:  # fmt: skip
    """Two stores in `folders`: of the documents of `texts` and the rows of `rows` (path -> how much), and of the
    documents held out. Without any of those the second folder is not made. Returns `folders`, or `kept` if the stores
    are there already.

    `stamp` names the contents of the files. What was tokenised before a kill is kept. Raises `DataError` naming file
    and row for what cannot be read, before anything is tokenised.
    """
    bundled = [fingerprint([source.documents_fingerprint()]) for source in map(Source, texts) if source.bundled]
    key = store_key(stamp, bundled, list(texts), encoder.key, rows, seed, mix_by=mix_by, mix_total=mix_total)
    for place in (kept or folders, folders):
        if finished_store(place[0], key):
            return place
    if texts:
        say("text: reading it once, to choose what is held out")
    lengths_N = np.array(array("q", (len(text.text) for text in read_texts(texts))), dtype=np.int64)
    if texts and not len(lengths_N):
        raise DataError(f"{', '.join(texts)}: no documents found; give .txt, .md, .jsonl or .parquet files")
    held = held_out(lengths_N, seed)
    if texts:
        say(f"text: {len(lengths_N):,} documents, {int(lengths_N.sum()):,} characters; {len(held)} held out")
    drawn = Drawn.of(folders[0], rows, encoder, seed=seed, stamp=stamp, by=mix_by, total=mix_total)
    total = len(lengths_N) - len(held) + drawn.rows
    characters = int(lengths_N.sum()) + drawn.rows * CHARACTERS_OF_A_ROW

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

    items, encode = chain(items_of_texts(), drawn.items()), EncodedOr(encoder)
    store = tokenize(
        folders[0], items, encode, key=key, total=total, characters=characters, unit="document", about=drawn.about
    )
    say_notices(store.counts)
    drawn.close()
    return folders


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
