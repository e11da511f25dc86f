"""Rich text through striprtf (extra `documents`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from longalign.data.readers.raw import RawDocument
from longalign.data.readers.unpack import bytes_of
from longalign.errors import DataError, UnreadableError


def rtf(path: Path) -> Iterator[RawDocument]:
    """The text of an RTF file."""
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError:
        raise DataError(f"{path}: reading RTF needs striprtf; `pip install 'longalign[documents]'`") from None
    data = bytes_of(path)
    if not data.lstrip().startswith(b"{\\rtf"):
        raise UnreadableError("not an RTF file")
    try:
        yield RawDocument(str(rtf_to_text(data.decode("latin-1"), errors="ignore")).strip())
    except (ValueError, IndexError, LookupError) as error:
        raise UnreadableError(f"damaged RTF file ({error})") from None
