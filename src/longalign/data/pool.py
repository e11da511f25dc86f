"""Files tokenised whole, each row once, for a mix that counts tokens; the chosen rows are then taken from here.

A pool is a token store in which every row of the file has at least one entry: a row that gives no sequence has an
empty one. The notes of an entry hold the row's number, the note of its sequence and, once a row, what was counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from longalign.data.store import Encoded, Encoder, Item, TokenStore
from longalign.data.tokenize import TokenSequence

NOTHING = TokenSequence(np.zeros(0, np.int32), np.zeros(0, bool))
COPIES, FILE, NUMBER = "_copies", "_file", "_number"
"""Keys of a row that this package adds on its way to the encoder."""


def copies(encoded: Encoded, times: int) -> Encoded:
    """A row that is used several times: each copy is a sequence of its own."""
    parts, counts = encoded
    if times == 1:
        return encoded
    repeated = [(part, {**note, "copy": number + 1}) for number in range(times) for part, note in parts]
    return repeated, Counter({name: count * times for name, count in counts.items()}) + Counter(repeated=times - 1)


class KeyedEncoder(Protocol):
    """An encoder that a store can be found by again."""

    @property
    def key(self) -> str:
        """What of the encoder decides the tokens. The text is part of the keys of stores on disk: a name in it stays
        as it is when a class or field is renamed, and changes only when the tokens do."""

    def __call__(self, value: Any, /) -> Encoded: ...


@dataclass(frozen=True)
class PoolEncoder:
    """`encode`, with entries as a pool has them. Picklable where `encode` is."""

    encode: Encoder

    def __call__(self, row: Mapping[str, Any]) -> Encoded:
        parts, counts = self.encode(row)
        entries: list[tuple[TokenSequence, dict[str, Any]]] = []
        for part, note in parts or [(NOTHING, {})]:
            counted = dict(counts) if not entries else {}
            entries.append((part, {"number": row[NUMBER], "note": note, "counts": counted}))
        return entries, Counter()


@dataclass(frozen=True)
class EncodedOr:
    """`encode`, except for items that come from a pool: their value is what it returned then."""

    encode: Encoder

    def __call__(self, value: Any) -> Encoded:
        return value if isinstance(value, tuple) else self.encode(value)


def tokens_of_rows(pool: TokenStore, rows: int) -> NDArray[np.int64]:
    """Tokens in training of each of a file's `rows` rows."""
    tokens_R = np.zeros(rows, dtype=np.int64)
    numbers = np.fromiter((note["number"] for note in _notes(pool)), dtype=np.int64, count=len(pool))
    np.add.at(tokens_R, numbers, pool.lengths)
    return tokens_R


def items_of_pool(pool: TokenStore, times_R: NDArray[np.int64], name: str) -> Iterator[Item]:
    """The rows that are used, encoded: `Item.value` is what `EncodedOr` returns."""
    entries = zip(range(len(pool)), _notes(pool), strict=True)
    for number, group in groupby(entries, key=lambda entry: int(entry[1]["number"])):
        if times := int(times_R[number]):
            found = list(group)
            parts = [(pool[place], entry["note"]) for place, entry in found if entry["note"]]
            counts = Counter(found[0][1]["counts"])
            yield Item(f"{Path(name).name} row {number + 1}", copies((parts, counts), times))


def _notes(pool: TokenStore) -> Iterator[dict[str, Any]]:
    with (pool.folder / "rows.jsonl").open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)
