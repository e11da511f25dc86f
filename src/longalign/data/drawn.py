"""The rows that a mix takes, from their files or, where tokens were counted, tokenised already; and a store's key."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import fingerprint
from longalign.config.mix import Amount, Portion
from longalign.data.chunks import tokenize
from longalign.data.mix import Times, Unit, draw_mix, drawn_rows
from longalign.data.pool import COPIES, FILE, NUMBER, KeyedEncoder, PoolEncoder, items_of_pool, tokens_of_rows
from longalign.data.row_counts import FileRows, noted, said
from longalign.data.source import Source, read_rows
from longalign.data.store import Item, TokenStore

CHARACTERS_OF_A_ROW = 5_000
"""A guess, for rows that are only counted."""


def store_key(stamp: str, *parts: object, mix_by: Unit = "rows", mix_total: int | None = None) -> str:
    """What a store is found by again. Plain numbers of rows give the key that they always gave."""
    mixed = [part for part in parts if isinstance(part, Mapping) and any(isinstance(a, Portion) for a in part.values())]
    plain = [
        {name: amount.model_dump() if isinstance(amount, Portion) else amount for name, amount in part.items()}
        if isinstance(part, Mapping)
        else part
        for part in parts
    ]
    return fingerprint(stamp, *plain, *([mix_by, mix_total] if mixed else []))


@dataclass(frozen=True)
class Drawn:
    """The rows of a mix: how often each is used, and where a mix by tokens has them tokenised already.

    read: what became of the rows of each file.
    """

    times: Mapping[str, Times]
    pools: Mapping[str, TokenStore]
    folder: Path
    read: Mapping[str, FileRows]

    @classmethod
    def of(
        cls, folder: Path, files: Mapping[str, Amount], encoder: KeyedEncoder, *, seed: int, stamp: str, by: Unit,
        total: int | None,
    ) -> Drawn:  # fmt: skip
        """Reads each file through once, so that errors show early, and says what became of its rows; where tokens
        count, tokenises it beside `folder`."""
        left_out: dict[str, Counter[str]] = {path: Counter() for path in files}
        rows_of = {path: sum(1 for _ in read_rows(path, left_out=left_out[path])) for path in files}
        read = said(left_out)
        beside = folder.parent / f".{folder.name}.pool"
        pools: dict[str, TokenStore] = {}

        def tokens_of(path: str) -> NDArray[np.int64]:
            if path not in pools:
                items = items_of_rows({path: np.ones(rows_of[path], np.int64)})
                key = fingerprint(stamp, encoder.key, path, "pool")
                size = rows_of[path] * CHARACTERS_OF_A_ROW
                place = beside / str(list(files).index(path))
                pools[path] = tokenize(
                    place, items, PoolEncoder(encoder), key=key, total=rows_of[path], characters=size, unit="row"
                )
            return tokens_of_rows(pools[path], rows_of[path])

        times = draw_mix(files, rows_of, by=by, total=total, seed=seed, tokens_of=tokens_of)
        return cls(times, pools, beside, read)

    @property
    def rows(self) -> int:
        """Rows that are read or taken; a repeated one counts once."""
        return sum(int((times_R > 0).sum()) for times_R in self.times.values())

    @property
    def about(self) -> dict[str, Any]:
        """What the store notes of the files and the mix."""
        return {"drawn": drawn_rows(self.times), **noted(self.read)}

    def items(self) -> Iterator[Item]:
        """The rows file by file; those that are tokenised already come encoded."""
        for path, times_R in self.times.items():
            if path in self.pools:
                yield from items_of_pool(self.pools[path], times_R, path)
            else:
                yield from items_of_rows({path: times_R})

    def close(self) -> None:
        """Delete the pools."""
        shutil.rmtree(self.folder, ignore_errors=True)


def items_of_rows(times: Mapping[str, Times]) -> Iterator[Item]:
    """The rows of each file that are used, with how often."""
    for path, times_R in times.items():
        rows = Source(path).placed_rows()
        last = int(np.flatnonzero(times_R)[-1]) + 1 if times_R.any() else 0
        for number, (where, row) in enumerate(islice(rows, last)):
            if used := int(times_R[number]):
                ours = {"_where": where, FILE: path, NUMBER: number, COPIES: used}
                yield Item(where, {"source": Path(path).stem, **row, **ours})
