"""The bytes of a file, unpacked by its last suffix: .gz, .bz2, .xz, .lzma (standard library), .zst (pyarrow)."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from longalign.errors import DataError, UnreadableError

PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zst")


def inner_name(path: Path) -> str:
    """The name without the suffix of a packer: `manual.pdf` of `manual.pdf.gz`."""
    return path.name[: -len(path.suffix)] if path.suffix.lower() in PACKED else path.name


def open_unpacked(path: Path) -> BinaryIO:
    """A stream of the unpacked bytes. Reading may raise what the packer raises: see `reading`."""
    packer = path.suffix.lower()
    if packer == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if packer == ".bz2":
        return cast(BinaryIO, bz2.open(path, "rb"))
    if packer in (".xz", ".lzma"):
        return cast(BinaryIO, lzma.open(path, "rb"))
    if packer == ".zst":
        try:
            import pyarrow
        except ImportError:
            raise DataError(f"{path}: reading .zst needs pyarrow; `pip install 'longalign[documents]'`") from None
        return cast(BinaryIO, pyarrow.input_stream(str(path), compression="zstd"))
    return path.open("rb")


DAMAGED = (gzip.BadGzipFile, EOFError, lzma.LZMAError, zlib.error)


def bytes_of(path: Path, limit: int = -1) -> bytes:
    """The unpacked bytes, or the first `limit` of them. Raises `UnreadableError` where the packing is damaged."""
    try:
        with open_unpacked(path) as stream:
            return stream.read(limit) if limit >= 0 else stream.read()
    except DAMAGED as error:
        raise UnreadableError(f"not a {path.suffix} file, or a damaged one ({error})") from None
    except OSError as error:
        if error.errno is None:  # bz2 and pyarrow say damage so
            raise UnreadableError(f"not a {path.suffix} file, or a damaged one ({error})") from None
        raise


def stream_of(path: Path) -> BytesIO:
    """The unpacked bytes, as libraries that seek want them."""
    return BytesIO(bytes_of(path))
