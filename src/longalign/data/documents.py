"""`Document`, the documents in a file or folder, and `source_kind`, which recognises the paper's nine sources.

`longalign.data.source.read_documents` reads documents by name, bundled corpora included.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Literal, Protocol

from longalign.base.hub import is_hub_name
from longalign.base.sources import not_there
from longalign.config import DataSettings
from longalign.data.document_text import clean_text, language_of, origin_of
from longalign.data.language import document_language
from longalign.data.readers import RawDocument, is_code, is_known, row_documents
from longalign.data.repository import Planned, planned_files
from longalign.data.row_files import is_saved_folder, name_of, raw_rows
from longalign.data.worker_pool import FileLimits, read_files
from longalign.errors import DataError, UnreadableError

FILE_MARK = "==> "
ReadFiles = Callable[[Iterable[Path], str | None, FileLimits], Iterator[tuple[Path, Iterator[RawDocument]]]]
MODULE_CHARACTERS = 8_000_000
"""Code of one folder beyond this begins another document: only one is in memory."""
MOST_PLANNED = 10_000
"""Files that are known of ahead; in a longer row of files that are left out, they are told of at once."""


@dataclass(frozen=True)
class Document:
    """One text. `id`: SHA-256 of the text. `source`: one of the paper's kinds where recognised, else a short label."""

    id: str
    text: str
    source: str
    title: str
    language: str
    """ISO 639-1 code, or "other"."""
    origin: str
    """Where it was read: file, `file:line`, or the corpus' name."""


@dataclass(frozen=True)
class Skipped:
    """A file or row that gave no document, and why."""

    origin: str
    reason: str
    excerpt: str = ""


class TakesSkipped(Protocol):
    """A list of `Skipped`, or what writes them to a file."""

    def append(self, skipped: Skipped, /) -> None:
        """Take one."""


def make_document(text: str, *, origin: str, source: str = "", title: str = "", language: str = "") -> Document:
    """A document of a text, cleaned of carriage returns, NUL and half surrogate pairs; may be empty.

    `language`: where it is known already.
    """
    clean = clean_text(text)
    return Document(
        id=_id_of(clean),
        text=clean,
        source=source_kind(source, origin),
        title=" ".join(title.split())[:200] or _first_line(clean),
        language=language or language_of(clean, origin),
        origin=origin,
    )


def is_source_code(document: Document) -> bool:
    """Whether it is a file of source code, or several of a repository's folder."""
    return is_code(Path(document.origin)) or document.text.startswith(FILE_MARK)


def with_text(document: Document, text: str) -> Document:
    """The same document with a part of its text left out."""
    return replace(document, id=_id_of(text), text=text)


def _id_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Reading:
    """How documents are read. `text_field`: the field of rows that holds the text; default: a common name.

    `files`: reads the files of a folder, as `read_files` does.
    """

    text_field: str | None = None
    repositories: Literal["join", "files"] = "join"
    limits: FileLimits = field(default_factory=FileLimits)
    files: ReadFiles = read_files

    @classmethod
    def of(cls, settings: DataSettings) -> Reading:
        """As settings say."""
        limits = FileLimits(settings.file_timeout_s, settings.file_memory_gib, settings.file_workers)
        files: ReadFiles = read_files
        if settings.executor == "ray":
            from longalign.data.ray_reading import read_files_in_ray

            files = partial(read_files_in_ray, address=settings.ray_address)
        return cls(settings.text_field, settings.repositories, limits, files)


def documents_at(root: Path | str, skipped: TakesSkipped, how: Reading | None = None) -> Iterator[Document]:
    """Documents of one file, of a folder's files sorted by name, or of the rows of a data set (`hub:` or saved).

    Raises `DataError` if it is not here.

    A named file that cannot be read, or has a broken row, is an error; one inside a folder is skipped and counted.
    """
    how = how or Reading()
    if is_hub_name(str(root)) or is_saved_folder(root):
        name = name_of(root)
        rows = ((int(where.rpartition(" ")[2]), row) for where, row in raw_rows(root))
        try:
            yield from _documents(root, row_documents(rows, str(root), how.text_field), name, skipped)
        except UnreadableError as error:
            raise DataError(f"{root}: {error}") from None
        return
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: {not_there(root)}")
    if root.is_file():
        for _, found in read_files([root], how.text_field, how.limits):
            try:
                yield from _documents(root, found, root.name, skipped, named=True)
            except UnreadableError as error:
                raise DataError(f"{root}: {error}") from None
        return
    planned: deque[Planned] = deque()
    module = Module()
    for file, found in how.files(_known_files(root, skipped, how, planned), how.text_field, how.limits):
        _left_out(planned, skipped)
        plan = planned.popleft()
        if not module.goes_on(plan):
            yield from module.taken()
        try:
            for document in _documents(file, found, str(Path(root.name) / file.relative_to(root)), skipped):
                if plan.module is None:
                    yield document
                else:
                    module.add(plan, document)
        except (UnreadableError, DataError) as error:  # of a row file, the rows before the broken one count
            skipped.append(Skipped(str(file), str(error).removeprefix(f"{file}:").strip()))
    _left_out(planned, skipped)
    yield from module.taken()


class Module:
    """The code of one folder of a repository, to become one document, or several where it is very long."""

    def __init__(self) -> None:
        self._plan: Planned | None = None
        self._files: list[Document] = []
        self._characters = 0

    def goes_on(self, plan: Planned) -> bool:
        """Whether a file belongs to what is gathered."""
        same = self._plan is not None and plan.module == self._plan.module
        return same and self._characters < MODULE_CHARACTERS

    def add(self, plan: Planned, document: Document) -> None:
        """Gather a file."""
        self._plan = plan
        self._files.append(document)
        self._characters += len(document.text)

    def taken(self) -> Iterator[Document]:
        """What is gathered, as a document; from now on it is gathered no more."""
        plan, files = self._plan, self._files
        self._plan, self._files, self._characters = None, [], 0
        if plan is None or plan.repository is None or plan.module is None:
            return
        above = plan.repository.absolute().parent
        paths = [Path(document.origin).absolute().relative_to(above).as_posix() for document in files]
        if len(files) == 1:
            yield replace(files[0], title=paths[0])
            return
        text = "\n\n".join(
            f"{FILE_MARK}{path} <==\n\n{document.text}" for path, document in zip(paths, files, strict=True)
        )
        made = make_document(
            text,
            origin=str(plan.module),
            title=plan.module.absolute().relative_to(above).as_posix(),
            language=document_language(text, code=True),
        )
        yield replace(made, source=files[0].source)


def _known_files(root: Path, skipped: TakesSkipped, how: Reading, planned: deque[Planned]) -> Iterator[Path]:
    """Files to read; `planned` gets one entry for each, and one for each file that is left out in between.

    So what is skipped is told in the order of the files, however far ahead they are read.
    """
    for plan in planned_files(root, how.repositories == "join"):
        file = plan.file
        if not plan.left_out and not is_known(file):
            plan = replace(plan, left_out=f"unknown kind of file `{file.suffix or file.name}`")
        if plan.left_out and len(planned) >= MOST_PLANNED:
            skipped.append(Skipped(str(file), plan.left_out))
            continue
        planned.append(plan)
        if not plan.left_out:
            yield file


def _left_out(planned: deque[Planned], skipped: TakesSkipped) -> None:
    """Tell of the files that are left out before the next one that is read."""
    while planned and planned[0].left_out:
        plan = planned.popleft()
        skipped.append(Skipped(str(plan.file), plan.left_out))


def _documents(
    file: Path | str, found: Iterator[RawDocument], label: str, skipped: TakesSkipped, named: bool = False
) -> Iterator[Document]:
    """`label` is the path that source kinds are recognised in; folders above the named one say nothing about it."""
    for raw in found:
        where = origin_of(file, raw)
        if raw.problem:
            if named:
                raise DataError(raw.problem)
            skipped.append(Skipped(where, raw.problem.removeprefix(f"{where}: ")))
            continue
        document = make_document(
            raw.text, origin=where, source=raw.source or label, title=raw.title, language=raw.language
        )
        if document.text:
            yield document
        else:
            skipped.append(Skipped(where, "no text"))


NO_TITLE = re.compile(r"\s*(?:\.\. |<!|\\[a-z]+\b|:[\w-]+:|[\W\d_]*$)")
"""A directive, a comment, a field, or no word."""


def _first_line(text: str) -> str:
    lines = text.lstrip("#=*- \n").split("\n", 20)
    line = next((line for line in lines[:20] if not NO_TITLE.match(line)), lines[0])
    return " ".join(line.split())[:120]


# Kind -> words by which a field of the Pile, RedPajama, or a folder name says so; whole words of lower-case text.
NAMES: dict[str, tuple[str, ...]] = {
    "arxiv": ("arxiv",),
    "books": ("books", "book", "books3", "bookcorpus", "bookcorpus2", "gutenberg", "pg19", "pg-19"),
    "c4": ("c4",),
    "clue": ("clue", "cluecorpus", "cluecorpus2020"),
    "commoncrawl": ("commoncrawl", "common_crawl", "common-crawl", "cc", "pile-cc", "cc-net", "fineweb"),
    "github": ("github", "starcoder", "the-stack"),
    "stackexchange": ("stackexchange", "stack_exchange", "stack-exchange", "stackoverflow"),
    "wikipedia": ("wikipedia", "wiki", "enwiki", "zhwiki"),
    "wudao": ("wudao", "wudaocorpora"),
}
LONGEST_LABEL = 60


def source_kind(label: str, origin: str = "") -> str:
    """The kind a label (field or path) names, else the label's first folder or file stem, shortened."""
    text = label.lower()
    for kind, names in NAMES.items():
        for name in names:
            if re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text):
                return kind
    if not label:
        return PurePath(origin).stem or "unknown"
    parts = PurePath(label).parts
    return (parts[0] if len(parts) > 1 else PurePath(label).stem)[:LONGEST_LABEL]
