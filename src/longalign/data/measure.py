"""What a document's text says before it is kept: its faults, its length, its parts where it is too long, its shingles.

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
from longalign.core.text_faults import Fault
from longalign.core.text_quality import Cut, checked
from longalign.data.document_draw import DocumentLengths, cut
from longalign.data.documents import Document, Reading, Skipped, is_source_code, make_document, with_text
from longalign.data.source import read_documents
from longalign.errors import RunError

BATCH_CHARS = 1_000_000
BATCH_SKIPPED = 10_000


@dataclass(frozen=True)
class Batch:
    """Documents that are measured together, and what was skipped while they were read."""

    documents: list[Document]
    skipped: list[Skipped]


@dataclass(frozen=True)
class Measured:
    """A document, or a part of one. `fault`: why it is not used; `hashes`: None then."""

    document: Document
    length_tokens: int
    fault: Fault | None
    hashes: Hashes | None


@dataclass(frozen=True)
class Pieces:
    """What became of one document: itself, or its parts. `cut_out`: stretches that the quality check took out of it."""

    origin: str
    pieces: list[Measured]
    cut: bool = False
    cut_out: tuple[Cut, ...] = ()


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
    checks = [_check(document, settings) for document in documents]
    lengths = counter.counts([document.text for document, _, _ in checks])
    found = []
    for (document, fault, cut_out), length in zip(checks, lengths, strict=True):
        if fault or length <= wanted.max or settings.longer_documents == "skip":
            pieces = [_measured(document, length, fault, settings, wanted)]
            found.append(Pieces(document.origin, pieces, False, cut_out))
        else:
            pieces = list(_parts(document, settings, wanted, counter))
            found.append(Pieces(document.origin, pieces, True, cut_out))
    return found


def _check(document: Document, settings: DataSettings) -> tuple[Document, Fault | None, tuple[Cut, ...]]:
    """The document as it is used, why it is not used, and what is cut out of a used one."""
    if settings.quality == "off":
        return document, None, ()
    found = checked(document.text, code=is_source_code(document))
    if found.fault or not found.cuts:
        return document, found.fault, ()
    return with_text(document, found.text), None, tuple(found.cuts)


def _measured(
    document: Document, length: int, fault: Fault | None, settings: DataSettings, wanted: DocumentLengths
) -> Measured:
    fault = fault or _unwanted(document, length, settings, wanted)
    return Measured(document, length, fault, shingles(document.text) if fault is None else None)


def _unwanted(document: Document, length: int, settings: DataSettings, wanted: DocumentLengths) -> Fault | None:
    if settings.languages and document.language not in settings.languages:
        return Fault(f"language {document.language} not wanted", "")
    if length > wanted.max:
        return Fault("too long", "")
    if length < wanted.min:
        return Fault("too short", "")
    return None


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
        yield _measured(made, part.length_tokens, None, settings, wanted)


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
