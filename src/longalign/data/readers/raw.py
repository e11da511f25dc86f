"""What a reader gives: `RawDocument`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RawDocument:
    """Text as it stands in a file; `line` is the row of a row file, from 1."""

    text: str
    title: str = ""
    source: str = ""
    line: int | None = None
    problem: str = ""
    """Why a row gave no text; `text` is empty then. It costs this row, not the file."""
    language: str = ""
    """Of the cleaned text, where whoever read the file has found it already."""


Reader = Callable[[Path], Iterator[RawDocument]]
