"""Files: atomic writes, JSON lines, hashes of content, and random draws that a key decides."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from longalign.errors import RunError


def fingerprint(*parts: object) -> str:
    """SHA-256 of the canonical JSON of `parts`; what JSON has no form for counts as its text.

    Dataclasses are refused: their text holds the names of class and fields, which may change when nothing else does.
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_text)
    return hashlib.sha256(text.encode()).hexdigest()


def _text(value: object) -> str:
    if is_dataclass(value):
        raise TypeError(f"{type(value).__name__} in a fingerprint: say which of its values decide the content")
    return str(value)


def fingerprint_path(path: str | Path) -> str:
    """SHA-256 over names and contents of a file or of every file below a folder."""
    path = Path(path)
    if not path.exists():
        raise RunError(f"{path}: no such file or folder")
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else files_below(path):
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in the order of sorted paths; one folder's names are in memory, not all paths."""
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from files_below(path)


def random_for(seed: int, *key: str | int) -> np.random.Generator:
    """A generator that depends on the seed and a key only, so order and parallelism cannot change a draw."""
    return np.random.default_rng(int(fingerprint(seed, *key)[:32], 16))


def make_folder(folder: Path) -> None:
    """Make an output folder and the folders above it; `RunError` says what is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.exists())
        raise RunError(f"{folder}: cannot be a folder, because {file} is a file; choose another --out") from None
    except OSError as error:
        raise cannot_write(folder, error) from None


def cannot_write(folder: Path, error: OSError) -> RunError:
    return RunError(f"{folder}: cannot be written ({error.strerror}); choose another --out")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write a file or folder into; renamed onto `path` on success."""
    path = Path(os.path.abspath(path))  # also `.` and `..` have a name then
    make_folder(path.parent)
    try:
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise cannot_write(path.parent, error) from None
    try:
        temporary = holder / path.name
        yield temporary
        if temporary.is_file():
            if path.is_dir():
                raise RunError(f"{path}: is a folder; name a file to write")
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        elif path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write a whole text file or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def atomic_write_json(path: str | Path, value: object) -> None:
    """Write a whole JSON file or nothing; NaN is refused, since JSON has none."""
    atomic_write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def json_line(row: Mapping[str, Any]) -> str:
    """One row as a line of a JSON-lines file, its end included."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file of rows or nothing; rows are taken one by one."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(map(json_line, rows))


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """Append one row and flush it to disk; a torn line left by a kill is ended first."""
    path = Path(path)
    make_folder(path.parent)
    with path.open("ab+") as stream:
        if stream.tell() > 0:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(json_line(row).encode())
        stream.flush()
        os.fsync(stream.fileno())


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """All whole rows of an append-only log; lines torn by a kill are passed over. No file, no rows."""
    path = Path(path)
    rows = []
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                rows.append(cast(dict[str, Any], json.loads(line)))
            except ValueError:
                continue
    return rows


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
