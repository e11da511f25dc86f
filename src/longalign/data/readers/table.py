"""Which reader reads which file: by the suffix under that of a packer, by the name, else by how the content begins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from longalign.data.readers.decode import decode
from longalign.data.readers.epub import epub
from longalign.data.readers.html import html
from longalign.data.readers.latex import latex
from longalign.data.readers.mail import mail, mbox
from longalign.data.readers.manual import is_manual, manual
from longalign.data.readers.office import docx, pptx
from longalign.data.readers.opendocument import opendocument
from longalign.data.readers.pdf import pdf
from longalign.data.readers.plain import CODE, TEXT, code, is_code, plain
from longalign.data.readers.raw import RawDocument, Reader
from longalign.data.readers.rows import delimited, json_lines, json_rows, notebook, parquet
from longalign.data.readers.rtf import rtf
from longalign.data.readers.sheets import xlsx
from longalign.data.readers.subtitles import subtitles
from longalign.data.readers.unpack import bytes_of, inner_name
from longalign.data.readers.xml import xml
from longalign.errors import UnreadableError

PROBE_BYTES = 8192
MANUAL = re.compile(r"\.(?:[1-9][a-z]{0,6}|man|mdoc|roff)$")
READERS: dict[str, Callable[..., Iterator[RawDocument]]] = {
    **dict.fromkeys(TEXT, plain),
    **dict.fromkeys(CODE, code),
    **dict.fromkeys((".html", ".htm", ".xhtml"), html),
    **dict.fromkeys((".xml", ".docbook", ".dbk", ".jats", ".tei"), xml),
    **dict.fromkeys((".jsonl", ".ndjson"), json_lines),
    **dict.fromkeys((".docx", ".docm", ".dotx"), docx),
    **dict.fromkeys((".pptx", ".pptm", ".ppsx"), pptx),
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls"), xlsx),
    **dict.fromkeys((".odt", ".ods", ".odp", ".ott"), opendocument),
    **dict.fromkeys((".srt", ".vtt", ".sbv"), subtitles),
    **dict.fromkeys((".tex", ".latex", ".ltx"), latex),
    ".json": json_rows,
    ".csv": delimited,
    ".tsv": delimited,
    ".parquet": parquet,
    ".pdf": pdf,
    ".epub": epub,
    ".ipynb": notebook,
    ".rtf": rtf,
    ".eml": mail,
    ".mbox": mbox,
}
"""Suffix -> what reads such a file, packed (.gz, .bz2, .xz, .zst) or not. A new kind is a function and a line here."""
ROW_READERS: dict[str, Callable[[Path, str | None], Iterator[RawDocument]]] = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_rows,
    ".csv": delimited,
    ".tsv": delimited,
    ".parquet": parquet,
}
"""Those of rows, which take the name of the text's field."""
NO_DOCUMENT_SUFFIXES = """
.css .scss .less .svg .map .lock .log .pem .crt .key .po .pot .pyc .dtd .xsd .xsl .rng .diff .patch .ps .eps
.bib .sty .cls .bst .aux .desktop .pc .list .md5sums .sha256 .hex .ttl .nt .obj .stl .ppm .pgm .xpm .in .typed
.postscript .mo .gmo .png .jpg .jpeg .gif .webp .tif .tiff .bmp .ico .mp3 .mp4 .ogg .wav .avi .mov .woff .woff2 .ttf
.otf .exe .dll .so .a .o .jar .class .whl .zip .tar .7z .rar .deb .rpm .npy .npz .safetensors .gguf .sqlite .db
.pickle .pkl
"""
NO_DOCUMENT = frozenset(NO_DOCUMENT_SUFFIXES.split())
"""No documents, though some are text (tables of numbers, styles): read only where the user names the file."""
MAGIC: tuple[tuple[bytes, Reader], ...] = (
    (b"%PDF-", pdf),
    (b"{\\rtf", rtf),
    (b"WEBVTT", subtitles),
)


def read_file(path: Path, text_field: str | None = None) -> Iterator[RawDocument]:
    """The documents of one file; files of unknown kind are tried as plain text.

    `text_field`: the field of rows that holds the text, `outer.inner` inside another; by default a common name.
    Raises `UnreadableError` when the file as a whole cannot be read, `DataError` for a missing extra. A row without
    text is given with its `problem`.
    """
    suffix = _suffix(path)
    try:
        if suffix in ROW_READERS and READERS.get(suffix) is ROW_READERS[suffix]:
            yield from ROW_READERS[suffix](path, text_field)
        else:
            yield from (_reader(path) or plain)(path)
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror or error})") from None


def is_known(path: Path) -> bool:
    """Whether a folder's file is of a kind that is read, by its name or by how it begins."""
    try:
        return _reader(path) is not None
    except OSError:
        return True  # reading it will say why not


def _whole(head: bytes) -> bytes:
    """The lines that the beginning of a file holds whole: a cut letter would look like another charset."""
    cut = len(head) == PROBE_BYTES and b"\0" not in head
    return head[: head.rfind(b"\n") + 1] or head if cut else head


def _suffix(path: Path) -> str:
    return Path(inner_name(path)).suffix.lower()


def _reader(path: Path) -> Reader | None:
    suffix = _suffix(path)
    if suffix in READERS:
        return READERS[suffix]
    if suffix in NO_DOCUMENT:
        return None
    if is_code(path):
        return code
    try:
        head = bytes_of(path, PROBE_BYTES)
        for magic, reader in MAGIC:
            if head.startswith(magic):
                return reader
        text = decode(_whole(head))
    except UnreadableError:
        return None
    if not text.strip():
        return None
    if MANUAL.search(inner_name(path)) and is_manual(text):
        return manual
    start = text.lstrip()[:200].lower()
    if start.startswith(("<!doctype html", "<html")):
        return html
    if start.startswith("<?xml"):
        return xml
    return plain


BUILT_IN = dict(READERS)
ROWS_ONE_BY_ONE = frozenset({json_lines, delimited, parquet})
SIMPLE = frozenset({plain, code, json_rows})


def needs_parser(path: Path, small_bytes: int) -> bool:
    """Whether a file should be read in a process of its own: its format has a parser, it is packed or it is large.

    Rows read one by one do not; nor do readers that the user has put into `READERS`, which only this process knows.
    """
    if _is_the_users(path):
        return False
    reader = _reader(path) or plain
    if reader in ROWS_ONE_BY_ONE:
        return False
    return reader not in SIMPLE or inner_name(path) != path.name or path.stat().st_size > small_bytes


def reads_elsewhere(path: Path, large_bytes: int) -> bool:
    """Whether another process may read a file and give back all of its documents: it is no large file of rows."""
    if _is_the_users(path):
        return False
    return _reader(path) not in ROWS_ONE_BY_ONE or path.stat().st_size <= large_bytes


def _is_the_users(path: Path) -> bool:
    """Whether its reader was put into `READERS` by the user: only this process knows it."""
    suffix = _suffix(path)
    return READERS.get(suffix) is not BUILT_IN.get(suffix)
