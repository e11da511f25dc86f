"""What gave no document, or a document that no row may be made from: each with its origin, reason and first words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from longalign.base.files import atomic_path, json_line
from longalign.data.documents import Skipped

EXCERPT_CHARACTERS = 200


class LeftOut:
    """A file of JSON lines, written as things are left out, and how many there are of each reason.

    `skipped` counts files and rows that gave no document, `dropped` documents and parts, `cut` stretches of documents.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.skipped: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()

    def append(self, left: Skipped) -> None:
        """A file or row that gave no document. The reason is what stands before ` (`, the detail what is in it and
        behind it."""
        reason, _, detail = left.reason.partition(" (")
        inside, _, behind = detail.rpartition(")")
        self.skipped[reason] += 1
        self._write(left.origin, reason, inside + behind, left.excerpt, None)

    def add(self, origin: str, reason: str, excerpt: str, *, length_tokens: int, detail: str = "") -> None:
        """A document or part. `excerpt`: its text, of which the first 200 characters are kept."""
        self.dropped[reason] += 1
        self._write(origin, reason, detail, excerpt, length_tokens)

    def add_stretch(self, origin: str, start: int, reason: str, text: str) -> None:
        """A stretch of a document that is used without it. `start`: its place in characters."""
        self.cut[reason] += 1
        self._write(f"{origin}#{start}", reason, f"{len(text):,} characters cut out of the document", text, None)

    def _write(self, origin: str, reason: str, detail: str, excerpt: str, length_tokens: int | None) -> None:
        row = {"origin": origin, "reason": reason, "detail": detail, "length_tokens": length_tokens}
        self._stream.write(json_line({**row, "excerpt": excerpt[:EXCERPT_CHARACTERS]}))


@contextmanager
def left_out_file(path: Path) -> Iterator[LeftOut]:
    """The whole file at the end, or none."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace") as stream:
        yield LeftOut(stream)
