"""`data sample`: a few rows to read, drawn by seed and content, evenly over groups."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappush, heappushpop
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.data.choose.facts import check_groups, facts_of
from longalign.data.choose.given import Row, content_key, read_given
from longalign.data.choose.row_out import check_out, write_rows
from longalign.data.show import row_text


def sample(name: str, *, n: int = 20, seed: int = 0, by: Sequence[str] = (), out: Path | None = None) -> dict[str, Any]:
    """`n` rows, the same ones whatever the order of the file; with `by` as many of each group as there are, evenly.

    Holds at most `n` rows a group in memory. Returns `rows`, and `text` to read.
    """
    check_groups("--by", by)
    if out is not None:
        check_out(out, [name])
    groups: dict[tuple[str, ...], list[tuple[int, int, Row, Row]]] = {}
    read = 0
    for read, given in enumerate(read_given(name), 1):
        drawn = int(fingerprint(seed, content_key(given.row))[:15], 16)
        heap = groups.setdefault(facts_of(given).group(tuple(by)) if by else (), [])
        entry = (-drawn, -read, given.raw, given.row)  # a heap's first is its smallest: the draw that goes first
        if len(heap) < n:
            heappush(heap, entry)
        elif entry[:2] > heap[0][:2]:
            heappushpop(heap, entry)
    taken = _evenly({group: sorted(heap, key=lambda e: (-e[0], -e[1])) for group, heap in sorted(groups.items())}, n)
    if out is not None:
        write_rows(out, (raw for _, _, raw, _ in taken))
    texts = [row_text(row) for _, _, _, row in taken]
    where = f"{len(taken):,} of {read:,} rows of {name}" + (f", by {', '.join(by)}" if by else "")
    text = f"{where}, in {out}" if out is not None else "\n\n".join([*texts, where])
    return {"read": read, "rows": [raw for _, _, raw, _ in taken], "out": out and str(out), "text": text}


def _evenly(groups: dict[tuple[str, ...], list[tuple[int, int, Row, Row]]], n: int) -> list[tuple[int, int, Row, Row]]:
    """One of each group in turn until there are `n`."""
    taken: list[tuple[int, int, Row, Row]] = []
    for turn in range(max(map(len, groups.values()), default=0)):
        taken += [found[turn] for found in groups.values() if turn < len(found)]
    return taken[:n]
