"""Rows: JSON, JSON lines, CSV, TSV, Parquet (extra `documents`).

A row that gives no text costs that row, not its file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from longalign.data.readers.decode import text_of
from longalign.data.readers.raw import RawDocument
from longalign.data.readers.unpack import DAMAGED, inner_name, open_unpacked, stream_of
from longalign.errors import DataError, UnreadableError

FIELDS = ("text", "content", "document", "article", "body", "raw_content", "page_content", "markdown", "context")
"""Where the text of a row is looked for, in this order, unless the user names a field."""
SHOWN_FIELDS = 8


def json_rows(path: Path, text_field: str | None = None) -> Iterator[RawDocument]:
    """A JSON list of rows, or one row."""
    try:
        value = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not JSON ({error})") from None
    if not isinstance(value, list | dict):
        raise UnreadableError(f"JSON of one {type(value).__name__}, not of rows")
    yield from _documents(enumerate(value if isinstance(value, list) else [value], 1), path, text_field)


def json_lines(path: Path, text_field: str | None = None) -> Iterator[RawDocument]:
    """A row a line."""
    try:
        with open_unpacked(path) as stream:
            yield from _documents(_lines(stream, path), path, text_field)
    except DAMAGED as error:
        raise UnreadableError(f"not a {path.suffix} file, or a damaged one ({error})") from None


def delimited(path: Path, text_field: str | None = None) -> Iterator[RawDocument]:
    """A record a row, of CSV or TSV whose first record names the columns."""
    try:
        with open_unpacked(path) as stream, TextIOWrapper(stream, "utf-8-sig", newline="") as lines:
            yield from _documents(_records(lines, path), path, text_field)
    except UnicodeDecodeError as error:
        raise UnreadableError(f"not UTF-8 ({error.reason} at byte {error.start}); convert it to UTF-8") from None
    except csv.Error as error:
        raise UnreadableError(f"not CSV ({error})") from None
    except DAMAGED as error:
        raise UnreadableError(f"not a {path.suffix} file, or a damaged one ({error})") from None


def _records(lines: Iterable[str], path: Path) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(2**31 - 1)
    tabs = inner_name(path).lower().endswith(".tsv")
    records = csv.reader(lines, delimiter="\t" if tabs else ",", strict=True)
    names, line = next(records, []), records.line_num + 1
    for cells in records:
        if cells and len(cells) != len(names):
            yield line, DataError(f"{path}:{line}: {len(cells)} cells for {len(names)} columns; quote commas in them")
        elif cells:
            yield line, dict(zip(names, cells, strict=True))
        line = records.line_num + 1


def row_documents(rows: Iterable[tuple[int, Any]], name: str, text_field: str | None) -> Iterator[RawDocument]:
    """Documents of numbered rows that are no file's, as those of a data set `name`."""
    yield from _documents(rows, name, text_field)


def parquet(path: Path, text_field: str | None = None) -> Iterator[RawDocument]:
    """Rows of a Parquet file (extra `documents`)."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow; `pip install 'longalign[documents]'`") from None
    try:
        file = ParquetFile(path if inner_name(path) == path.name else stream_of(path))
    except Exception as error:  # pyarrow raises its own family of errors
        raise UnreadableError(f"not a Parquet file ({error})") from None
    names = file.schema_arrow.names
    text = _field(dict.fromkeys(names), text_field)
    if text is None:
        raise UnreadableError(_no_field(names, text_field))
    wanted = {text.split(".")[0], text, "source", "title", "meta", "metadata", "dataset"}
    columns = [name for name in names if name in wanted]
    rows = (row for batch in file.iter_batches(batch_size=64, columns=columns) for row in batch.to_pylist())
    yield from _documents(enumerate(rows, 1), path, text_field)


def parsed_lines(lines: Iterable[str | bytes], path: Path) -> Iterator[tuple[int, Any]]:
    """(line number from 1, value) of JSON lines, empty ones left out. Raises `DataError` with file:line."""
    for number, value in _lines(lines, path):
        if isinstance(value, DataError):
            raise value
        yield number, value


def _lines(lines: Iterable[str | bytes], path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, DataError(f"{path}:{number}: not JSON ({error}); each line must be one JSON object")


def _documents(rows: Iterable[tuple[int, Any]], path: Path | str, text_field: str | None) -> Iterator[RawDocument]:
    """Raises `UnreadableError` where the first object has no text field: then the file is no rows of documents."""
    first = True
    for number, row in rows:
        if first and isinstance(row, Mapping):
            first = False
            if _field(row, text_field) is None:
                raise UnreadableError(_no_field(row, text_field))
        try:
            yield _row(row, f"{path}:{number}", number, text_field)
        except DataError as error:
            yield RawDocument("", line=number, problem=str(error))


def _field(row: Mapping[str, Any], text_field: str | None) -> str | None:
    if text_field is not None:
        return text_field if text_field in row or text_field.split(".")[0] in row else None
    return next((name for name in FIELDS if name in row), None)


def _no_field(names: Iterable[str], text_field: str | None) -> str:
    shown = list(names)
    found = ", ".join(f"`{name}`" for name in shown[:SHOWN_FIELDS]) or "no fields"
    found += f" and {len(shown) - SHOWN_FIELDS} more" if len(shown) > SHOWN_FIELDS else ""
    if text_field is not None:
        return f"no text field `{text_field}` (has {found})"
    return f"no text fields (has {found}); name the one that holds the text with --text_field"


def _row(row: Any, where: str, number: int, text_field: str | None) -> RawDocument:
    if isinstance(row, DataError):
        raise row
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a document row is a JSON object with `text`, this is a {type(row).__name__}")
    field = _field(row, text_field)
    if field is None:
        found = ", ".join(f"`{key}`" for key in list(row)[:SHOWN_FIELDS]) or "no fields"
        wanted = text_field or "text"
        raise DataError(f"{where}: field `{wanted}` is missing (found {found}); each document row needs `{wanted}`")
    value: Any = row
    for part in [field] if field in row else field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, str):
        kind = "null" if value is None else f"a {type(value).__name__}"
        raise DataError(f"{where}: field `{field}` is {kind}; it must be text")
    meta = row.get("meta") or row.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    source = row.get("source") or meta.get("pile_set_name") or meta.get("source") or row.get("dataset") or ""
    title = row.get("title") or meta.get("title") or ""
    return RawDocument(value, str(title), str(source), number)


def notebook(path: Path) -> Iterator[RawDocument]:
    """The cells of a Jupyter notebook, without their outputs."""
    try:
        cells = json.loads(text_of(path))["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells)
    except (ValueError, KeyError, TypeError):
        raise UnreadableError("not a notebook") from None
    yield RawDocument(text)
