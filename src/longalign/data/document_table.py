"""The documents of a corpus as a build draws from them: 83 bytes each, so that a million take little memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from longalign.data.document_draw import DocumentSummary


class DocumentTable(Sequence[DocumentSummary]):
    """A sequence of `DocumentSummary` in columns; each is made when it is looked at."""

    def __init__(self, documents: Iterable[DocumentSummary]) -> None:
        self._ids = bytearray()
        self._ends = array("q", [0])
        self._lengths = array("q")
        self._languages = array("H")
        self._in_band = bytearray()
        numbers: dict[str, int] = {}
        for document in documents:
            self._ids += document.id.encode()
            self._ends.append(len(self._ids))
            self._lengths.append(document.length_tokens)
            self._languages.append(numbers.setdefault(document.language, len(numbers)))
            self._in_band.append(document.in_band)
        self._names = list(numbers)

    def __len__(self) -> int:
        return len(self._lengths)

    @overload
    def __getitem__(self, place: int) -> DocumentSummary: ...

    @overload
    def __getitem__(self, place: slice) -> list[DocumentSummary]: ...

    def __getitem__(self, place: int | slice) -> DocumentSummary | list[DocumentSummary]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        return DocumentSummary(
            self._ids[self._ends[place] : self._ends[place + 1]].decode(),
            self._names[self._languages[place]],
            self._lengths[place],
            bool(self._in_band[place]),
        )

    def __iter__(self) -> Iterator[DocumentSummary]:
        return map(self.__getitem__, range(len(self)))
