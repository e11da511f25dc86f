"""The files of a folder read on a Ray cluster: what comes out, and its order, is that of reading them here.

A task takes a few files and reads them as this process would, formats with a parser in a worker under the limits of
time and memory. It also finds the language of each text, which takes longer than reading most. The folder must lie
where every node sees it.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from longalign.base.ray_cluster import spread
from longalign.data.document_text import clean_text, language_of, origin_of
from longalign.data.readers import RawDocument, reads_elsewhere
from longalign.data.worker_pool import FileLimits, read_files
from longalign.errors import DataError, RunError

FILES_PER_TASK = 16
BYTES_PER_TASK = 8 << 20
LARGE_ROW_FILE_BYTES = 64 << 20
"""A larger file of rows is read in this process, row by row: the result of a task is in memory as a whole."""

Read = tuple[list[RawDocument], DataError | None]
"""The documents of a file, and what ended it early."""


def read_files_in_ray(
    files: Iterable[Path], text_field: str | None, limits: FileLimits, *, address: str | None
) -> Iterator[tuple[Path, Iterator[RawDocument]]]:
    """As `read_files`. Large files of rows are read here, and so is what a reader of the user's own reads.

    Raises `RunError` where a node of the cluster does not see the files.
    """
    planned: deque[tuple[list[Path], bool]] = deque()
    limits = replace(limits, workers=1)  # a task has one CPU
    folder = os.getcwd()

    def calls() -> Iterator[tuple[list[str], str, str | None, FileLimits]]:
        for together, here in _tasks(files):
            planned.append((together, here))
            if not here:
                yield [str(file) for file in together], folder, text_field, limits

    found = spread(_read_there, calls(), address, "reading documents")
    for results in found:
        yield from _here(planned, text_field, limits)
        together, _ = planned.popleft()
        for file, read in zip(together, results, strict=True):
            yield file, _documents(read)
    yield from _here(planned, text_field, limits)


def _tasks(files: Iterable[Path]) -> Iterator[tuple[list[Path], bool]]:
    """(files that are read together, whether in this process)."""
    together: list[Path] = []
    size = 0
    for file in files:
        try:
            here, file_bytes = not reads_elsewhere(file, LARGE_ROW_FILE_BYTES), file.stat().st_size
        except OSError:
            here, file_bytes = True, 0  # reading it says why
        if here and together:
            yield together, False
            together, size = [], 0
        if here:
            yield [file], True
            continue
        together.append(file)
        size += file_bytes
        if len(together) >= FILES_PER_TASK or size >= BYTES_PER_TASK:
            yield together, False
            together, size = [], 0
    if together:
        yield together, False


def _here(
    planned: deque[tuple[list[Path], bool]], text_field: str | None, limits: FileLimits
) -> Iterator[tuple[Path, Iterator[RawDocument]]]:
    while planned and planned[0][1]:
        yield from read_files(planned.popleft()[0], text_field, limits)


def _documents(read: Read) -> Iterator[RawDocument]:
    documents, error = read
    yield from documents
    if error is not None:
        raise error


def _read_there(files: list[str], folder: str, text_field: str | None, limits: FileLimits) -> list[Read]:
    """In a task."""
    try:
        os.chdir(folder)  # names are as a person gave them
        unseen = next((file for file in files if not os.path.lexists(file)), None)
    except OSError:
        unseen = folder
    if unseen is not None:
        raise RunError(
            f"node {socket.gethostname()} of the Ray cluster does not see {unseen}; documents and working folder must "
            "lie on a file system that all nodes share"
        )
    return [_read(file, found) for file, found in read_files(map(Path, files), text_field, limits)]


def _read(file: Path, found: Iterator[RawDocument]) -> Read:
    documents: list[RawDocument] = []
    try:
        documents.extend(_with_language(file, raw) for raw in found)
    except DataError as error:
        return documents, type(error)(str(error))
    return documents, None


def _with_language(file: Path, raw: RawDocument) -> RawDocument:
    text = clean_text(raw.text)
    return replace(raw, language=language_of(text, origin_of(file, raw))) if text else raw
