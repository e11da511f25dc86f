"""The text of one file, by its suffix. Only the standard library, except for PDF and Parquet (extra `documents`)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.core.text import HAN
from longalign.data.markup import docx_text, epub_text, html_text
from longalign.errors import DataError, UnreadableError

TEXT_SUFFIXES = ".txt .text .md .markdown .rst .tex .org .adoc .srt"
CODE_SUFFIXES = """
.py .pyi .c .h .cc .cpp .cxx .hpp .cu .java .kt .scala .js .jsx .ts .tsx .go .rs .rb .php .cs .swift .m .sh .bash
.sql .r .jl .lua .pl .hs .ml .clj .ex .erl .f90 .v .vhd .proto .toml .ini .cfg .yaml .yml
"""
PLAIN = (TEXT_SUFFIXES + CODE_SUFFIXES).split()
FIELDS = ("text", "content", "document", "article", "body")
PROBE_BYTES = 8192


@dataclass(frozen=True)
class RawDocument:
    """Text as it stands in a file; `line` is the row of a row file, from 1."""

    text: str
    title: str = ""
    source: str = ""
    line: int | None = None


Reader = Callable[[Path], Iterator[RawDocument]]


def is_known(path: Path) -> bool:
    """Whether a folder's file is of a kind that is read."""
    return _kind(path) in READERS


def read_file(path: Path) -> Iterator[RawDocument]:
    """The documents of one file; files of unknown kind are tried as plain text.

    Raises `UnreadableError` when the file as a whole cannot be read, `DataError` for a broken row.
    """
    try:
        yield from READERS.get(_kind(path), plain)(path)
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror or error})") from None


def _kind(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _bytes(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError) as error:
        raise UnreadableError(f"not a gzip file ({error})") from None


def _decode(data: bytes) -> str:
    """UTF-8, UTF-16 with its mark, or GB18030 where that gives Chinese; anything else is refused, never guessed."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise UnreadableError("begins like UTF-16 but is not") from None
    if b"\0" in data[:PROBE_BYTES]:
        raise UnreadableError("binary file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError:
            text = ""
        letters = sum(char > "\x7f" for char in text)
        if letters and len(HAN.findall(text)) > 0.6 * letters:
            return text
        raise UnreadableError(f"not UTF-8 (byte {data[error.start]:#04x} at {error.start}); convert it first") from None


def text_of(path: Path) -> str:
    """The whole text of a file, unpacked and decoded. Raises `UnreadableError`."""
    return _decode(_bytes(path))


def plain(path: Path) -> Iterator[RawDocument]:
    """Text and source code."""
    yield RawDocument(text_of(path))


def html(path: Path) -> Iterator[RawDocument]:
    """A web page, with its title."""
    yield RawDocument(*html_text(text_of(path)))


def docx(path: Path) -> Iterator[RawDocument]:
    """A Word file."""
    yield RawDocument(docx_text(path))


def epub(path: Path) -> Iterator[RawDocument]:
    """An electronic book, with its title."""
    yield RawDocument(*epub_text(path))


def json_rows(path: Path) -> Iterator[RawDocument]:
    """A JSON list of rows, or one row."""
    try:
        value = json.loads(text_of(path))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None
    for number, row in enumerate(value if isinstance(value, list) else [value], 1):
        yield _row(row, f"{path}:{number}", number)


def json_lines(path: Path) -> Iterator[RawDocument]:
    """A row a line."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        for number, row in parsed_lines(stream, path):
            yield _row(row, f"{path}:{number}", number)


def parsed_lines(lines: Iterable[str | bytes], path: Path) -> Iterator[tuple[int, Any]]:
    """(line number from 1, value) of JSON lines, empty ones left out. Raises `DataError` with file:line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: not JSON ({error}); each line must be one JSON object") from None


def _row(row: Any, where: str, number: int) -> RawDocument:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a document row is a JSON object with `text`, this is a {type(row).__name__}")
    field = next((name for name in FIELDS if name in row), None)
    if field is None:
        found = ", ".join(f"`{key}`" for key in list(row)[:6]) or "no fields"
        raise DataError(f"{where}: field `text` is missing (found {found}); each document row needs `text`")
    if not isinstance(row[field], str):
        raise DataError(f"{where}: field `{field}` is a {type(row[field]).__name__}; it must be text")
    meta = row.get("meta") or row.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    source = row.get("source") or meta.get("pile_set_name") or meta.get("source") or row.get("dataset") or ""
    title = row.get("title") or meta.get("title") or ""
    return RawDocument(row[field], str(title), str(source), number)


def parquet(path: Path) -> Iterator[RawDocument]:
    """Rows of a Parquet file (extra `documents`)."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow; `pip install longalign[documents]`") from None
    try:
        file = ParquetFile(path)
    except Exception as error:  # pyarrow raises its own family of errors
        raise UnreadableError(f"not a Parquet file ({error})") from None
    wanted = {*FIELDS, "source", "title", "meta", "metadata", "dataset"}
    columns = [name for name in file.schema_arrow.names if name in wanted]
    number = 0
    for batch in file.iter_batches(batch_size=64, columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield _row(row, f"{path}:{number}", number)


def pdf(path: Path) -> Iterator[RawDocument]:
    """The text layer of a PDF, page by page (extra `documents`)."""
    try:
        import pypdf
    except ImportError:
        raise DataError(f"{path}: reading PDF needs pypdf; `pip install longalign[documents]`") from None
    try:
        text = "\n\n".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    except Exception as error:  # damaged PDFs raise almost anything
        raise UnreadableError(f"PDF cannot be read ({type(error).__name__}: {str(error)[:80]})") from None
    yield RawDocument(text)


def notebook(path: Path) -> Iterator[RawDocument]:
    """The cells of a Jupyter notebook, without their outputs."""
    try:
        cells = json.loads(text_of(path))["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    except (ValueError, KeyError, TypeError):
        raise UnreadableError("not a notebook") from None
    yield RawDocument(text)


READERS: dict[str, Reader] = {
    **dict.fromkeys(PLAIN, plain),
    **dict.fromkeys((".html", ".htm", ".xhtml"), html),
    **dict.fromkeys((".jsonl", ".ndjson"), json_lines),
    ".json": json_rows,
    ".parquet": parquet,
    ".pdf": pdf,
    ".docx": docx,
    ".epub": epub,
    ".ipynb": notebook,
}
"""Suffix -> what reads such a file, packed with gzip or not. A new kind of file is a function and a line here."""
