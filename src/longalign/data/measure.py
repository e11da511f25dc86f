"""What a document's text says before it is kept: its length, its parts where it is too long, and its shingles.

It takes most of the time that a corpus takes, and it depends on one document alone: with `executor: ray` batches of
documents are measured on the cluster.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from longalign.base.ray_cluster import spread
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.core.shingles import Hashes, shingles
from longalign.data.document_draw import DocumentLengths, cut
from longalign.data.documents import Document, Reading, Skipped, make_document
from longalign.data.source import read_documents
from longalign.errors import RunError

BATCH_CHARS = 4_000_000
BATCH_SKIPPED = 10_000


@dataclass(frozen=True)
class Batch:
    """Documents that are measured together, and what was skipped while they were read."""

    documents: list[Document]
    skipped: list[Skipped]


@dataclass(frozen=True)
class Measured:
    """A document, or a part of one."""

    document: Document
    length_tokens: int
    hashes: Hashes


@dataclass(frozen=True)
class Pieces:
    """What became of one document: itself, or its parts."""

    pieces: list[Measured]
    cut: bool = False


def measured_batches(
    settings: DataSettings, wanted: DocumentLengths, counter: TokenCounter, counts: Counter[str]
) -> Iterator[tuple[list[Skipped], list[Pieces]]]:
    """What was skipped and what was read, batch by batch in a fixed order; `counts` gets `read`, as they are read."""
    batches = _batches(settings, counts)
    if settings.executor == "ray":
        yield from _measured_in_ray(batches, settings, wanted, counter)
        return
    for batch in batches:
        yield batch.skipped, measure(batch.documents, settings, wanted, counter)


def _batches(settings: DataSettings, counts: Counter[str]) -> Iterator[Batch]:
    documents: list[Document] = []
    skipped: list[Skipped] = []
    size = 0
    for document in read_documents(settings.documents, skipped=skipped, how=Reading.of(settings)):
        counts["read"] += 1
        documents.append(document)
        size += len(document.text)
        if size >= BATCH_CHARS or len(skipped) >= BATCH_SKIPPED:
            yield Batch(documents, skipped[:])
            documents, size = [], 0
            skipped.clear()
    yield Batch(documents, skipped)


def measure(
    documents: list[Document], settings: DataSettings, wanted: DocumentLengths, counter: TokenCounter
) -> list[Pieces]:
    """The pieces of each document."""
    lengths = counter.counts([document.text for document in documents])
    return [
        Pieces([Measured(document, length, shingles(document.text))])
        if length <= wanted.max or settings.longer_documents == "skip"
        else Pieces(list(_parts(document, settings, wanted, counter)), cut=True)
        for document, length in zip(documents, lengths, strict=True)
    ]


def _parts(
    document: Document, settings: DataSettings, wanted: DocumentLengths, counter: TokenCounter
) -> Iterator[Measured]:
    ends_T = counter.ends(document.text)
    parts = cut(document.text, ends_T, shortest=wanted.min_part, limit=wanted.max, seed=settings.seed, key=document.id)
    for number, part in enumerate(parts, 1):
        made = make_document(
            document.text[part.start : part.end],
            origin=f"{document.origin}#{part.start}",
            language=document.language,
        )
        title = f"{document.title} ({number}/{len(parts)})"
        made = replace(made, source=document.source, title=title)
        yield Measured(made, part.length_tokens, shingles(made.text))


def _measured_in_ray(
    batches: Iterable[Batch], settings: DataSettings, wanted: DocumentLengths, counter: TokenCounter
) -> Iterator[tuple[list[Skipped], list[Pieces]]]:
    skipped: deque[list[Skipped]] = deque()

    def calls() -> Iterator[tuple[list[Document], DataSettings, DocumentLengths, str, str]]:
        for batch in batches:
            skipped.append(batch.skipped)
            yield batch.documents, settings, wanted, counter.name, counter.fingerprint

    for pieces in spread(_measure_there, calls(), settings.ray_address, "measuring documents"):
        yield skipped.popleft(), pieces


def _measure_there(
    documents: list[Document], settings: DataSettings, wanted: DocumentLengths, tokenizer: str, known: str
) -> list[Pieces]:
    """In a task."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one CPU
    counter = _counter(tokenizer)
    if counter.fingerprint != known:
        raise RunError(f"a node of the Ray cluster has another tokenizer at {tokenizer}; all nodes need the same one")
    return measure(documents, settings, wanted, counter)


_counter: Callable[[str], TokenCounter] = lru_cache(1)(TokenCounter)
