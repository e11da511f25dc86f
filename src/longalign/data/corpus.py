"""The documents of one build, read once and kept on disk: counted, cut, without duplicates and contaminated texts.

One SQLite file beside the rows holds each usable text once (compressed) with its metadata; rows are made from it in
any order without keeping texts in memory. It is a cache: it is rebuilt when documents or settings change
(corpus_build.py).
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from pathlib import Path

from longalign.base.files import atomic_path, fingerprint
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.corpus_build import build_corpus
from longalign.data.corpus_report import CorpusReport
from longalign.data.document_draw import DEFAULT_MIN_TOKENS, DocumentLengths, DocumentSummary
from longalign.data.document_table import DocumentTable
from longalign.data.documents import Document
from longalign.data.left_out import left_out_file

VERSION = 3


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
    fields += " text_field repositories languages quality"
    chosen = {name: getattr(settings, name) for name in fields.split()} | {"limit": lengths.max}
    key = fingerprint(documents_hash, counter.fingerprint, chosen, VERSION)
    if not (path.exists() and listing.exists() and _key_of(path) == key):
        with atomic_path(path) as temporary, left_out_file(listing) as left_out:
            build_corpus(temporary, settings, lengths, counter, key, left_out)
    return Corpus(path)


def _key_of(path: Path) -> str | None:
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        row = db.execute("SELECT value FROM about WHERE key = 'key'").fetchone()
        db.close()
    except sqlite3.DatabaseError:
        return None
    return row[0] if row else None
