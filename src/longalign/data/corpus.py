"""The documents of one build, read once and kept on disk: counted, cut, without duplicates and contaminated texts.

One SQLite file beside the rows holds each usable text once (compressed) with its metadata; rows are made from it in
any order without keeping texts in memory. It is a cache: it is rebuilt when documents or settings change.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_path, fingerprint
from longalign.base.progress import SECONDS_BETWEEN_LINES, say
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.core.shingles import Contamination, Hashes, repeated_share, sample
from longalign.data.document_draw import DEFAULT_MIN_TOKENS, DocumentLengths, DocumentSummary, histogram
from longalign.data.document_table import DocumentTable
from longalign.data.documents import Document
from longalign.data.left_out import LeftOut, left_out_file
from longalign.data.measure import Measured, Pieces, measured_batches
from longalign.data.readers import parsed_lines
from longalign.errors import DataError

VERSION = 2
SHINGLES_KEPT = 20_000_000
TABLES = """
CREATE TABLE documents (id TEXT PRIMARY KEY, text BLOB, meta TEXT, language TEXT, length_tokens INTEGER, dropped TEXT);
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT);
"""


class Sketches:
    """Shingles of the usable documents; beyond a bound on memory, all of them keep the same sample of hashes."""

    def __init__(self) -> None:
        self.share = 1.0
        self.by_document: dict[str, Hashes] = {}
        self.kept = 0

    def add(self, id: str, hashes: Hashes) -> None:
        """Remember one document."""
        self.by_document[id] = sample(hashes, self.share)
        self.kept += len(self.by_document[id])
        while self.kept > SHINGLES_KEPT:
            self.share /= 2
            self.by_document = {id: sample(hashes, self.share) for id, hashes in self.by_document.items()}
            self.kept = sum(map(len, self.by_document.values()))

    def repeated(self, lengths: dict[str, int], share: float) -> list[str]:
        """Documents of which at least `share` stands in longer ones."""
        order = sorted(self.by_document, key=lambda id: (-lengths[id], id))
        shares = repeated_share([self.by_document[id] for id in order])
        return [id for id, value in zip(order, shares, strict=True) if value >= share]


@dataclass(frozen=True, kw_only=True)
class CorpusReport:
    """Every file and document accounted for: read, skipped with reason, cut, dropped with reason, usable."""

    read: int
    files_or_rows_skipped: int
    skipped_by_reason: dict[str, int]
    cut_into_parts: int
    parts: int
    dropped_by_reason: dict[str, int]
    usable: int
    usable_tokens: int
    usable_by_language: dict[str, int]
    longest_tokens: int
    length_histogram: dict[str, int]
    evaluation_texts: int
    evaluation_texts_too_short: int


class Corpus:
    """An opened corpus file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def report(self) -> CorpusReport:
        """Every file and document accounted for."""
        (value,) = self._db.execute("SELECT value FROM about WHERE key = 'report'").fetchone()
        return CorpusReport(**json.loads(value))

    def documents(self, min_length_tokens: int | None) -> DocumentTable:
        """Usable documents; with a minimum given, only those that reach it."""
        rows = self._db.execute("SELECT id, language, length_tokens FROM documents WHERE dropped IS NULL ORDER BY id")
        shortest = min_length_tokens or DEFAULT_MIN_TOKENS
        found = (DocumentSummary(id, language, length, length >= shortest) for id, language, length in rows)
        return DocumentTable(document for document in found if min_length_tokens is None or document.in_band)

    def load(self, id: str) -> Document:
        """One document."""
        text, meta = self._db.execute("SELECT text, meta FROM documents WHERE id = ?", (id,)).fetchone()
        return Document(id=id, text=zlib.decompress(text).decode("utf-8"), **json.loads(meta))


def open_corpus(
    path: Path, listing: Path, settings: DataSettings, counter: TokenCounter, documents_hash: str
) -> Corpus:
    """The corpus of these documents and settings, built when it is not there yet. `listing`: what is left out of it."""
    lengths = DocumentLengths.of(settings)
    fields = "min_length_tokens max_length_tokens longer_documents duplicate_share contaminated_share seed"
    fields += " text_field repositories languages"
    chosen = {name: getattr(settings, name) for name in fields.split()} | {"limit": lengths.max}
    key = fingerprint(documents_hash, counter.fingerprint, chosen, VERSION)
    if not (path.exists() and listing.exists() and _key_of(path) == key):
        with atomic_path(path) as temporary, left_out_file(listing) as left_out:
            _build(temporary, settings, lengths, counter, key, left_out)
    return Corpus(path)


def evaluation_texts(paths: Sequence[str]) -> list[str]:
    """Every text in evaluation files: all string values of JSON files, paragraphs of others."""
    texts: list[str] = []
    for name in paths:
        path = Path(name)
        if not path.is_file():
            raise DataError(f"{name}: no such evaluation file; correct --decontaminate")
        content = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix in (".json", ".jsonl"):
            try:
                values = [json.loads(content)]
            except ValueError:
                values = [value for _, value in parsed_lines(content.split("\n"), path)]
            texts.extend(text for value in values for text in _strings(value))
        else:
            texts.extend(content.split("\n\n"))
    return texts


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _key_of(path: Path) -> str | None:
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        row = db.execute("SELECT value FROM about WHERE key = 'key'").fetchone()
        db.close()
    except sqlite3.DatabaseError:
        return None
    return row[0] if row else None


def _build(
    path: Path, settings: DataSettings, wanted: DocumentLengths, counter: TokenCounter, key: str, left_out: LeftOut
) -> None:
    db = sqlite3.connect(path)
    db.executescript(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + TABLES
    )  # a temporary file, renamed when whole
    forbidden = Contamination.of(evaluation_texts(settings.decontaminate))
    counts = Counter({"read": 0, "cut": 0, "parts": 0})
    sketches = Sketches()
    lengths: dict[str, int] = {}
    said_s = time.monotonic()
    for skipped, batch in measured_batches(settings, wanted, counter, counts):
        for left in skipped:
            left_out.append(left)
        for piece in _pieces(batch, counts):
            document, length, hashes = piece.document, piece.length_tokens, piece.hashes
            if document.id in lengths:
                left_out.add(document.origin, "repeated exactly", document.text, length_tokens=length)
                continue
            reason = _dropped(length, wanted)
            if settings.languages and document.language not in settings.languages:
                reason = f"language {document.language} not wanted"
            if reason is None and forbidden.share(hashes) >= settings.contaminated_share:
                reason = "holds text of an evaluation"
            lengths[document.id] = length
            if reason is None:
                sketches.add(document.id, hashes)
            else:
                left_out.add(document.origin, reason, document.text, length_tokens=length)
            _insert(db, document, length, reason)
        if time.monotonic() - said_s > SECONDS_BETWEEN_LINES:
            said_s = time.monotonic()
            say(f"documents: {counts['read']:,} read, {sum(lengths.values()):,} tokens")
    for id in sketches.repeated(lengths, settings.duplicate_share):
        text, meta = db.execute("SELECT text, meta FROM documents WHERE id = ?", (id,)).fetchone()
        origin, text = json.loads(meta)["origin"], zlib.decompress(text).decode("utf-8")
        left_out.add(origin, "repeated inside others", text, length_tokens=lengths[id])
        db.execute("UPDATE documents SET dropped = 'repeated inside others', text = NULL WHERE id = ?", (id,))
    usable = [n for (n,) in db.execute("SELECT length_tokens FROM documents WHERE dropped IS NULL")]
    report = CorpusReport(
        read=counts.pop("read"),
        files_or_rows_skipped=left_out.skipped.total(),
        skipped_by_reason=dict(left_out.skipped.most_common()),
        cut_into_parts=counts.pop("cut"),
        parts=counts.pop("parts"),
        dropped_by_reason=dict(sorted(left_out.dropped.items())),
        usable=len(usable),
        usable_tokens=sum(usable),
        usable_by_language=dict(
            db.execute("SELECT language, COUNT(*) FROM documents WHERE dropped IS NULL GROUP BY language").fetchall()
        ),
        longest_tokens=max(lengths.values(), default=0),
        length_histogram=histogram(usable),
        evaluation_texts=len(forbidden.counts),
        evaluation_texts_too_short=forbidden.too_short,
    )
    db.executemany("INSERT INTO about VALUES (?, ?)", [("key", key), ("report", json.dumps(asdict(report)))])
    db.commit()
    db.close()


def _pieces(batch: list[Pieces], counts: Counter[str]) -> Iterator[Measured]:
    for found in batch:
        if found.cut:
            counts["cut"] += 1
            counts["parts"] += len(found.pieces)
        yield from found.pieces


def _dropped(length: int, wanted: DocumentLengths) -> str | None:
    if length > wanted.max:
        return "too long"
    if length < wanted.min:
        return "too short"
    return None


def _insert(db: sqlite3.Connection, document: Document, length: int, reason: str | None) -> None:
    meta = {key: value for key, value in asdict(document).items() if key not in ("id", "text")}
    text = None if reason else zlib.compress(document.text.encode("utf-8"), 1)
    db.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)",
        (document.id, text, json.dumps(meta, ensure_ascii=False), document.language, length, reason),
    )
