"""Workbooks of Excel through calamine (extra `documents`): .xlsx, .xlsm, .xlsb, .xls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from longalign.data.readers.archive import is_locked
from longalign.data.readers.raw import RawDocument
from longalign.data.readers.unpack import stream_of
from longalign.errors import DataError, UnreadableError


def xlsx(path: Path) -> Iterator[RawDocument]:
    """The values of the sheets, a row a line, cells divided by tabs; a sheet without values is left out."""
    try:
        import python_calamine
    except ImportError:
        raise DataError(f"{path}: reading Excel needs python-calamine; `pip install 'longalign[documents]'`") from None
    sheets = []
    data = stream_of(path)
    try:
        book = python_calamine.CalamineWorkbook.from_filelike(data)
        for name in book.sheet_names:
            rows = ("\t".join(map(_value, row)).rstrip() for row in book.get_sheet_by_name(name).iter_rows())
            lines = [row for row in rows if row]
            sheets += ["\n".join([name, *lines])] if lines else []
    except (python_calamine.CalamineError, OSError) as error:
        if is_locked(data.getvalue()):
            raise UnreadableError("workbook with a password") from None
        raise UnreadableError(f"damaged or not a workbook ({str(error)[:80]})") from None
    yield RawDocument("\n\n".join(sheets))


def _value(cell: object) -> str:
    """A cell as it reads: whole numbers without `.0`, line breaks inside of it as blanks."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return " ".join(str(cell).split("\n"))
