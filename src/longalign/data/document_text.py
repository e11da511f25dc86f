"""The text of a document as it is kept, and its language: what follows from the text of a file alone."""

from __future__ import annotations

from pathlib import Path

from longalign.data.language import document_language
from longalign.data.readers import RawDocument, is_code


def clean_text(text: str) -> str:
    """A text without carriage returns, NUL, half surrogate pairs, and blank ends; may be empty."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half surrogate pairs: JSON lets them be written, UTF-8 does not
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip()


def language_of(clean: str, origin: str) -> str:
    """The language of a document that was read at `origin`."""
    return document_language(clean, code=is_code(Path(origin)))


def origin_of(file: Path | str, raw: RawDocument) -> str:
    """Where a document stands: the file, or `file:line`."""
    return f"{file}:{raw.line}" if raw.line else str(file)
