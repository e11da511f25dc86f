"""From texts to two token stores, one to train on and one held out, without ever holding the texts.

The texts are read twice: once for their lengths, from which the held-out ones are chosen, and once to tokenise. In
memory are eight bytes a document and the chunks that the workers have; a single document must fit as a whole.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.builtin import corpus, is_builtin
from longalign.data.documents import documents_fingerprint, read_documents
from longalign.data.rows_to_tokens import CHARACTERS_OF_A_ROW, RowEncoder, draw, items_of_rows, open_tokenizer, tokenize
from longalign.data.store import Encoded, Item, build_store, finished_store
from longalign.data.tokenize import tokenize_document, windows
from longalign.errors import DataError
from longalign.progress import say
from longalign.run import fingerprint, random_for

HELDOUT_DOCUMENTS = 16
FEWEST_DOCUMENTS = 10
"""Of fewer documents none is held out."""


@dataclass(frozen=True)
class DocumentEncoder:
    """Turns a document into windows, every token a target."""

    tokenizer: str
    window: int

    def __call__(self, document: Mapping[str, Any]) -> Encoded:
        parts = list(windows(tokenize_document(open_tokenizer(self.tokenizer), document["text"]), self.window))
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


def tokenize_texts(
    texts: Sequence[str], rows: Mapping[str, int | None], folders: tuple[Path, Path], encoder: MixedEncoder,
    *, stamp: str, seed: int,
) -> None:  # fmt: skip
    """Two stores in `folders`: of the documents of `texts` and the rows of `rows` (path -> rows to draw), and of the
    documents held out. Without any of those the second folder is not made.

    `stamp` names the contents of the files. What was tokenised before a kill is kept. Raises `DataError` naming file
    and row for what cannot be read, before anything is tokenised.
    """
    bundled = [documents_fingerprint([name]) for name in texts if is_builtin(name)]
    key = fingerprint(stamp, bundled, list(texts), encoder, dict(rows), seed)
    if finished_store(folders[0], key):
        return
    if texts:
        say("text: reading it once, to choose what is held out")
    lengths_N = np.array(array("q", (len(document["text"]) for document in read_texts(texts))), dtype=np.int64)
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
        for number, document in enumerate(read_texts(texts)):
            item = Item(document["where"], document)
            if number not in held:
                yield item
                continue
            aside.append(item)
            if len(aside) == len(held):
                build_store(folders[1], [aside], encoder, key=key)

    items = chain(items_of_texts(), items_of_rows(chosen))
    tokenize(folders[0], items, encoder, key=key, total=total, characters=characters, unit="document")


def read_texts(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Documents of bundled corpora, files and folders: `id`, `text`, `source`, `title`, `where` it was read."""
    for name in names:
        if is_builtin(name):
            for title, text in corpus(name):
                yield {"id": fingerprint(text), "text": text, "source": name, "title": title, "where": title}
        else:
            for document in read_documents([name]):
                yield {
                    "id": document.id,
                    "text": document.text,
                    "source": document.source or name,
                    "title": document.title or "",
                    "where": document.origin,
                }


def held_out(lengths_N: NDArray[np.int64], seed: int) -> frozenset[int]:
    """A fiftieth of the documents, at least one and at most 16, from the longest third; none of fewer than ten."""
    count = len(lengths_N)
    if count < FEWEST_DOCUMENTS:
        return frozenset()
    longest = np.argsort(-lengths_N, kind="stable")[: -(-count // 3)]
    wanted = min(max(count // 50, 1), HELDOUT_DOCUMENTS, len(longest))
    return frozenset(random_for(seed, "extend", "heldout").choice(longest, size=wanted, replace=False).tolist())
