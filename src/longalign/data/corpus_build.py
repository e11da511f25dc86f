"""Documents become the corpus file: read, checked, counted, cut into parts, compared with each other.

Memory does not grow with the texts. A document takes 48 bytes in the sketches while the file is made, all shingles
together at most 160 MB; everything else is on disk.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from longalign.base.progress import SECONDS_BETWEEN_LINES, say
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.core.shingles import Contamination
from longalign.core.text_faults import Fault
from longalign.data.corpus_report import CorpusReport
from longalign.data.document_draw import DocumentLengths, histogram
from longalign.data.documents import Document
from longalign.data.evaluation_texts import evaluation_texts
from longalign.data.left_out import LeftOut
from longalign.data.measure import Measured, Pieces, measured_batches
from longalign.data.sketches import Sketches

INSIDE_OTHERS = "repeated inside others"
TABLES = """
CREATE TABLE documents (id TEXT PRIMARY KEY, text BLOB, meta TEXT, language TEXT, length_tokens INTEGER, dropped TEXT);
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT);
"""


def build_corpus(
    path: Path, settings: DataSettings, wanted: DocumentLengths, counter: TokenCounter, key: str, left_out: LeftOut
) -> None:
    """Write the corpus file. `key`: what it is made from. `left_out`: takes all that is not usable, with the reason."""
    db = sqlite3.connect(path)
    db.executescript(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + TABLES
    )  # a temporary file, renamed when whole
    forbidden = Contamination.of(evaluation_texts(settings.decontaminate))
    counts = Counter({"read": 0, "cut": 0, "parts": 0})
    sketches = Sketches()
    total_tokens = longest_tokens = 0
    said_s = time.monotonic()
    for skipped, batch in measured_batches(settings, wanted, counter, counts):
        for left in skipped:
            left_out.append(left)
        for piece in _pieces(batch, counts, left_out):
            document, length, fault, hashes = piece.document, piece.length_tokens, piece.fault, piece.hashes
            if db.execute("SELECT 1 FROM documents WHERE id = ?", (document.id,)).fetchone():
                left_out.add(document.origin, "repeated exactly", document.text, length_tokens=length)
                continue
            if hashes is not None and forbidden.share(hashes) >= settings.contaminated_share:
                fault, hashes = Fault("holds text of an evaluation", ""), None
            if hashes is not None:
                sketches.add(document.id, length, hashes)
            if fault is not None:
                left_out.add(document.origin, fault.reason, document.text, length_tokens=length, detail=fault.detail)
            total_tokens, longest_tokens = total_tokens + length, max(longest_tokens, length)
            _insert(db, document, length, fault.reason if fault else None)
        if time.monotonic() - said_s > SECONDS_BETWEEN_LINES:
            said_s = time.monotonic()
            say(f"documents: {counts['read']:,} read, {total_tokens:,} tokens")
    _drop_repeated(db, sketches, settings.duplicate_share, left_out)
    usable = array("q", (n for (n,) in db.execute("SELECT length_tokens FROM documents WHERE dropped IS NULL")))
    languages = db.execute(
        "SELECT language, COUNT(*) FROM documents WHERE dropped IS NULL GROUP BY language"
    ).fetchall()
    report = CorpusReport(
        read=counts.pop("read"),
        files_or_rows_skipped=left_out.skipped.total(),
        skipped_by_reason=dict(left_out.skipped.most_common()),
        cut_into_parts=counts.pop("cut"),
        parts=counts.pop("parts"),
        dropped_by_reason=dict(sorted(left_out.dropped.items())),
        usable=len(usable),
        usable_tokens=sum(usable),
        usable_by_language=dict(languages),
        longest_tokens=longest_tokens,
        length_histogram=histogram(usable),
        evaluation_texts=len(forbidden.counts),
        evaluation_texts_too_short=forbidden.too_short,
        cut_out_by_reason=dict(sorted(left_out.cut.items())),
    )
    db.executemany("INSERT INTO about VALUES (?, ?)", [("key", key), ("report", json.dumps(asdict(report)))])
    db.commit()
    db.close()


def _pieces(batch: list[Pieces], counts: Counter[str], left_out: LeftOut) -> Iterator[Measured]:
    for found in batch:
        for stretch in found.cut_out:
            left_out.add_stretch(found.origin, stretch.start, stretch.reason, stretch.text)
        if found.cut:
            counts["cut"] += 1
            counts["parts"] += len(found.pieces)
        yield from found.pieces


def _insert(db: sqlite3.Connection, document: Document, length: int, reason: str | None) -> None:
    meta = {key: value for key, value in asdict(document).items() if key not in ("id", "text")}
    text = None if reason else zlib.compress(document.text.encode("utf-8"), 1)
    db.execute(
        "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)",
        (document.id, text, json.dumps(meta, ensure_ascii=False), document.language, length, reason),
    )


def _drop_repeated(db: sqlite3.Connection, sketches: Sketches, share: float, left_out: LeftOut) -> None:
    for id, length in sketches.repeated(share):
        text, meta = db.execute("SELECT text, meta FROM documents WHERE id = ?", (id,)).fetchone()
        origin, text = json.loads(meta)["origin"], zlib.decompress(text).decode("utf-8")
        left_out.add(origin, INSIDE_OTHERS, text, length_tokens=length)
        db.execute("UPDATE documents SET dropped = ?, text = NULL WHERE id = ?", (INSIDE_OTHERS, id))
