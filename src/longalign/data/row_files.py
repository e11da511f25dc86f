"""The rows of a file, a folder or a data set of the hub as they stand, one after another, in constant memory.

JSON lines, JSON lists, CSV and TSV, each also packed (.gz, .bz2, .xz, .zst); Parquet; folders that `datasets` saved
(`save_to_disk`); `hub:ORG/NAME` (base/hub.py).
"""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from longalign.base.hub import is_hub_name, parts_of, rows_of_hub
from longalign.base.sources import not_there
from longalign.data.readers import parsed_lines
from longalign.data.row_values import without_nulls
from longalign.errors import DataError

Raw = tuple[str, object]
PACKED = (".gz", ".bz2", ".xz", ".zst")
BATCH_ROWS = 64
CHUNK_CHARACTERS = 1 << 20
NEAR_THE_END = 16
"""Characters: a JSON error this close to the end of what has been read may be due to the end."""
NUMBERS = ("length", "length_tokens", "weight")
FORMS = ".jsonl, .json, .csv or .parquet file, a folder saved by `datasets`, or hub:ORG/NAME"


def raw_rows(path: Path | str) -> Iterator[Raw]:
    """(where, row) of every row; `where` is file:line, or file and number of the row. Raises `DataError`."""
    if is_hub_name(str(path)):
        for number, row in enumerate(rows_of_hub(str(path), BATCH_ROWS), 1):
            yield f"{path}: row {number}", without_nulls(row)
        return
    path = Path(path)
    if path.is_dir():
        yield from _saved_rows(path)
        return
    if not path.is_file():
        raise DataError(f"{path}: {not_there(path)}; give a {FORMS}")
    try:
        yield from _reader(path)(path)
    except UnicodeDecodeError as error:
        what = f"not UTF-8 ({error.reason} at byte {error.start})"
        raise DataError(f"{path}: {what}; convert it to UTF-8, or give a {FORMS}") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def is_saved_folder(path: Path | str) -> bool:
    """Whether `datasets` saved it (`save_to_disk`)."""
    one = all(Path(path, name).is_file() for name in ("dataset_info.json", "state.json"))
    return one or Path(path, "dataset_dict.json").is_file()


def name_of(path: Path | str) -> str:
    """A file's name without its suffixes, a folder's name, or a data set's: the `source` of rows that name none."""
    if is_hub_name(str(path)):
        return parts_of(str(path)).repository.rsplit("/", 1)[-1]
    return _unpacked(Path(path)).rsplit(".", 1)[0]


def _unpacked(path: Path) -> str:
    return path.name.removesuffix(path.suffix) if path.suffix in PACKED else path.name


def _reader(path: Path) -> Callable[[Path], Iterator[Raw]]:
    with path.open("rb") as stream:
        if stream.read(4) == b"PAR1":
            return _parquet_rows
    return READERS.get(Path(_unpacked(path)).suffix.lower(), _json_lines)


def _opened(path: Path, newline: str | None = None) -> TextIO:
    """The text of a file that may be packed, without a byte order mark."""
    if path.suffix == ".zst":
        pyarrow = _pyarrow(path)
        return TextIOWrapper(pyarrow.input_stream(str(path), compression="zstd"), "utf-8-sig", newline=newline)
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    opened: TextIO = openers.get(path.suffix, open)(path, "rt", encoding="utf-8-sig", newline=newline)
    return opened


def _json_lines(path: Path) -> Iterator[Raw]:
    with _opened(path) as stream:
        for number, row in parsed_lines(stream, path):
            yield f"{path}:{number}", row


def _json(path: Path) -> Iterator[Raw]:
    """A list of rows, one row over several lines, or JSON lines under a .json name."""
    with _opened(path) as stream:
        head = stream.read(NEAR_THE_END)
        while head and not head.strip() and (more := stream.read(CHUNK_CHARACTERS)):
            head += more
        if head.lstrip().startswith("["):
            for number, row in enumerate(_items(stream, head.lstrip()[1:], path), 1):
                yield f"{path}: row {number}", row
            return
        lines = chain((head + stream.readline()).removesuffix("\n").split("\n"), stream)
        first = next((line for line in lines if line.strip()), "")
        try:
            json.loads(first)
        except (ValueError, RecursionError):
            rest = "".join(lines)
            try:
                yield f"{path}: row 1", json.loads(f"{first}\n{rest}")
                return
            except (ValueError, RecursionError):
                lines = chain(rest.split("\n"))
        for number, row in parsed_lines(chain([first], lines), path):
            yield f"{path}:{number}", row


def _items(stream: TextIO, text: str, path: Path) -> Iterator[object]:
    """The items of a JSON list whose bracket has been read; `text` is what has been read behind it."""
    decoder, place, number, ended = json.JSONDecoder(), 0, 0, False
    while True:
        place = _behind(re.compile(r"\s*"), text, place)
        if place == len(text) and not ended:
            pass
        elif text[place : place + 1] == "]":
            if text[place + 1 :].strip() or stream.read().strip():
                raise DataError(f"{path}: not JSON (text behind the end of the list); one list of rows is expected")
            return
        else:
            start = _behind(re.compile(r",\s*"), text, place) if number else place
            try:
                value, end = decoder.raw_decode(text, start)
            except (ValueError, RecursionError) as error:
                at = getattr(error, "pos", 0)
                if ended or isinstance(error, RecursionError) or not _may_go_on(str(error), at, len(text)):
                    raise DataError(f"{path}: row {number + 1}: not JSON ({error})") from None
            else:
                if ended or (end < len(text) and not (_is_number(value) and text[end] in ".eE+-0123456789")):
                    if number and start == place:
                        raise DataError(f"{path}: row {number + 1}: not JSON (a comma is missing before it)")
                    number, place = number + 1, end
                    yield value
                    continue
        more = stream.read(max(CHUNK_CHARACTERS, len(text) - place))
        text, place, ended = text[place:] + more, 0, not more


def _behind(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _may_go_on(message: str, at: int, length: int) -> bool:
    return message.startswith("Unterminated string") or at >= length - NEAR_THE_END


def _csv_rows(path: Path) -> Iterator[Raw]:
    """A row a record, columns named by the first. Empty cells are left out."""
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if _unpacked(path).lower().endswith(".tsv") else ","
    with _opened(path, newline="") as stream:
        records, line = csv.reader(stream, delimiter=delimiter, strict=True), 1
        try:
            names = next(records, [])
            if len(set(names)) < len(names):
                raise DataError(f"{path}:1: two columns have the same name; rename one")
            line = records.line_num + 1
            for cells in records:
                if cells and len(cells) != len(names):
                    raise DataError(f"{path}:{line}: {len(cells)} cells for {len(names)} columns; quote commas in them")
                if cells:
                    yield f"{path}:{line}", {n: _cell(n, cell) for n, cell in zip(names, cells, strict=True) if cell}
                line = records.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not CSV ({error})") from None


def _cell(name: str, cell: str) -> str | int | float:
    if name in NUMBERS:
        try:
            return int(cell) if cell.strip().isdecimal() else float(cell)
        except ValueError:
            return cell
    return cell


def _parquet_rows(path: Path) -> Iterator[Raw]:
    _pyarrow(path)
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=BATCH_ROWS)
            for number, row in enumerate((row for batch in batches for row in batch.to_pylist()), 1):
                yield f"{path}: row {number}", without_nulls(row)
    except ArrowException as error:
        raise DataError(f"{path}: not a whole Parquet file ({error})") from None


def _saved_rows(folder: Path) -> Iterator[Raw]:
    """A data set, or the split `train` or only split of several, as `save_to_disk` wrote it: files of Arrow batches."""
    try:
        if (folder / "dataset_dict.json").exists():
            splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            split = "train" if "train" in splits else splits[0]
            if split != "train" and len(splits) > 1:
                raise DataError(f"{folder}: has the splits {', '.join(splits)}; name one, like {folder / split}")
            yield from _saved_rows(folder / split)
            return
        if not (folder / "state.json").exists():
            raise DataError(f"{folder}: a folder, not a row file; give a {FORMS}")
        names = [file["filename"] for file in json.loads((folder / "state.json").read_text("utf-8"))["_data_files"]]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{folder}: not a folder saved by `datasets` ({type(error).__name__}: {error})") from None
    pyarrow = _pyarrow(folder)
    number = 0
    for name in names:
        try:
            with pyarrow.memory_map(str(folder / name)) as source, pyarrow.ipc.open_stream(source) as batches:
                for batch in batches:
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        for row in batch.slice(start, BATCH_ROWS).to_pylist():
                            number += 1
                            yield f"{folder}: row {number}", without_nulls(row)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{folder / name}: cannot be read ({error})") from None


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise DataError(f"{path}: reading this needs pyarrow; `pip install 'longalign[datasets]'`") from None
    return pyarrow


READERS: dict[str, Callable[[Path], Iterator[Raw]]] = {
    ".json": _json,
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".parquet": _parquet_rows,
}
"""Suffix -> what reads such a file; any other is read as JSON lines."""
