"""The text layer of a PDF through PDFium (extra `documents`), in the order in which the pages were written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from longalign.data.readers.pdf_text import joined_pages
from longalign.data.readers.raw import RawDocument
from longalign.data.readers.unpack import bytes_of
from longalign.errors import DataError, UnreadableError

NO_TITLE = re.compile(r"\.(?:docx?|dvi|tex|indd|qxd|pdf)$|^(?:untitled|microsoft word)|^(?=\S*\d)\S+$", re.IGNORECASE)
"""Names of files and numbers of manuscripts, which programs write where the title belongs."""


def pdf(path: Path) -> Iterator[RawDocument]:
    """One document, its title from the file's own properties."""
    try:
        import pypdfium2
    except ImportError:
        raise DataError(f"{path}: reading PDF needs pypdfium2; `pip install 'longalign[documents]'`") from None
    try:
        file = pypdfium2.PdfDocument(bytes_of(path))
    except pypdfium2.PdfiumError as error:
        locked = "password" in str(error).lower()
        raise UnreadableError("PDF with a password" if locked else f"PDF cannot be read ({error})") from None
    pages, broken = [], 0
    try:
        title = file.get_metadata_value("Title") or ""
        for number in range(len(file)):
            try:
                page = file[number]
                text_page = page.get_textpage()
                pages.append(text_page.get_text_range(errors="ignore"))
                text_page.close()
                page.close()
            except pypdfium2.PdfiumError:
                broken += 1
    finally:
        file.close()
    if not any(page.strip() for page in pages):
        raise UnreadableError(f"PDF without a text layer ({len(pages) + broken} pages; scanned?)")
    yield RawDocument(joined_pages(pages), "" if NO_TITLE.search(title) else title)
