"""`Source`: the documents or rows behind a name that a setting gives, and the fingerprint of their content.

    Source("books/").documents()    Source("long.jsonl").rows()    Source("builtin:chat-0-300").rows()

`here` and `fingerprint()` come from `Named` (base/sources.py), which resolves a name without reading anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint, fingerprint_path
from longalign.base.hub import PREFIX as HUB
from longalign.base.hub import fingerprint_of_hub, is_hub_name
from longalign.base.sources import Named, not_there
from longalign.data.documents import Document, Reading, Skipped, TakesSkipped, documents_at, make_document
from longalign.data.row_counts import READ
from longalign.data.rows import rows_of_file
from longalign.errors import DataError


@dataclass(frozen=True)
class Text:
    """A text as it stands, for continued pretraining. `where`: what messages call it."""

    id: str
    text: str
    source: str
    title: str
    where: str


@dataclass(frozen=True)
class Source(Named):
    """A file, folder or bundled set that documents or rows are read from."""

    def documents(self, skipped: TakesSkipped | None = None, how: Reading | None = None) -> Iterator[Document]:
        """Its documents in a fixed order; `skipped` collects what gave none. Raises as `read_documents` does."""
        if not self.bundled:
            yield from documents_at(self._documents_name, skipped if skipped is not None else [], how)
            return
        for title, text in self._corpus():
            yield make_document(text, origin=self.name, source=self.short, title=title)

    def texts(self) -> Iterator[Text]:
        """Its documents for continued pretraining; those of bundled corpora byte for byte, ends of texts too."""
        if self.bundled:
            for title, text in self._corpus():
                yield Text(fingerprint(text), text, self.name, title, title)
            return
        for document in read_documents([self.name]):
            yield Text(document.id, document.text, document.source or self.name, document.title, document.origin)

    def rows(self, left_out: Counter[str] | None = None) -> Iterator[dict[str, Any]]:
        """Its rows of `messages`; `left_out` counts rows read, and those left out or cut by reason (row_counts.py).

        Raises `DataError` with file:line:field.
        """
        for _, row in self.placed_rows(left_out):
            yield row

    def placed_rows(self, left_out: Counter[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """(where, row): file:line without the folder, or file and number of the row, for messages."""
        if not self.bundled:
            for where, row in rows_of_file(self.name, left_out):
                yield where.replace(self.name, Path(self.name).name, 1), row
            return
        from longalign.bundled.rows import rows

        for number, row in enumerate(rows(self.name), 1):
            if left_out is not None:
                left_out[READ] += 1
            yield f"{self.name} row {number}", row

    def documents_fingerprint(self) -> str:
        """Content of its documents; of a bundled corpus too, which depends on the Python that runs."""
        if self.bundled:
            return fingerprint(list(self._corpus()))
        if is_hub_name(self._documents_name):
            return fingerprint_of_hub(self._documents_name)
        if not self.here:
            raise DataError(f"{self.name}: {not_there(self.name)}")
        return fingerprint_path(self.name)

    @property
    def _documents_name(self) -> str:
        """`hf:` names a data set of the hub, too, where documents are wanted."""
        return HUB + self.name.removeprefix("hf:") if self.name.startswith("hf:") else self.name

    def _corpus(self) -> Iterator[tuple[str, str]]:
        from longalign.bundled.corpora import corpus

        return corpus(self.name)


def read_documents(
    names: Sequence[Path | str], *, skipped: TakesSkipped | None = None, how: Reading | None = None
) -> Iterator[Document]:
    """Documents of files, folders (recursively, sorted by name), row files and `builtin:` corpora, one after another.

    Not more than one file is in memory. `skipped` collects what gave no document. Raises `DataError` for a path that
    does not exist, a named file that cannot be read, a broken row, or when nothing gives any document.
    """
    if not names:
        raise DataError("no documents given; name files, folders, .jsonl files or `builtin:python-docs`")
    first = _FirstSkipped(skipped)
    count = 0
    for name in names:
        for document in Source(str(name)).documents(first, how):
            count += 1
            yield document
    if count == 0:
        reasons = "; ".join(f"{left.origin}: {left.reason}" for left in first.kept) or "nothing in there"
        raise DataError(f"no document in {', '.join(str(name) for name in names)[:200]} ({reasons})")


class _FirstSkipped:
    """Passes on what was skipped, and keeps the first three for a message."""

    def __init__(self, to: TakesSkipped | None) -> None:
        self.to = to
        self.kept: list[Skipped] = []

    def append(self, skipped: Skipped) -> None:
        if len(self.kept) < 3:
            self.kept.append(skipped)
        if self.to is not None:
            self.to.append(skipped)


def documents_fingerprint(names: Sequence[Path | str]) -> str:
    """Content of everything `read_documents` would read."""
    return fingerprint([Source(str(name)).documents_fingerprint() for name in names])


def read_rows(name: str | Path, *, left_out: Counter[str] | None = None) -> Iterator[dict[str, Any]]:
    """`Source.rows` of a file, folder, data set of the hub or bundled set: `id`, `messages`, `source`, the rest."""
    return Source(str(name)).rows(left_out)
