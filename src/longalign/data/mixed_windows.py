"""Text in several windows: a token store in which each window has its share of the tokens (core/window_mix.py).

The documents are tokenised once, at the largest window. Only then are all lengths known, in tokens, and the sequences
are cut and left out by them. Memory holds three numbers a sequence. Rows that are mixed into the text are not cut.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from longalign.base.files import random_for
from longalign.base.progress import say
from longalign.config.mix import Amount
from longalign.core.order import IntArray
from longalign.core.window_mix import pieces, window_of_each
from longalign.data.chunks import tokenize
from longalign.data.drawn import CHARACTERS_OF_A_ROW, Drawn, store_key
from longalign.data.mix import Unit
from longalign.data.pool import EncodedOr
from longalign.data.store import Encoded, Item, TokenStore, finished_store
from longalign.data.to_tokens import MixedEncoder, tokenize_texts
from longalign.errors import DataError


@cache
def _opened(folder: Path, key: str) -> TokenStore:
    """Once a process; `key` tells apart what lay in one folder one after the other."""
    return TokenStore.open(folder)


@dataclass(frozen=True)
class WindowEncoder:
    """Cuts sequences of a store, given as `{"number", "window", "note", ...}`; rows are tokenised. Picklable."""

    store: Path
    key: str
    rows: MixedEncoder

    def __call__(self, value: Mapping[str, Any]) -> Encoded:
        if "messages" in value:
            return self.rows(value)
        sequence, window = _opened(self.store, self.key)[value["number"]], value["window"]
        cut = [sequence.take(slice(*span)) for span in pieces(sequence.length_tokens, window)]
        kept = [part for part in cut if part.target_count]
        if not kept:
            return [], Counter({"windows_left_out": 1, "tokens_left_out": sequence.length_tokens})
        tokens = sum(part.length_tokens for part in kept)
        counts = Counter({"windows": len(kept), f"tokens_in_windows_of_{window}": tokens, "windows_cut": len(cut) > 1})
        return [(part, value["note"]) for part in kept], +counts


def tokenize_in_windows(
    texts: Sequence[str], rows: Mapping[str, Amount], folders: tuple[Path, Path], encoder: MixedEncoder,
    *, shares: Mapping[int, float], stamp: str, seed: int, mix_by: Unit = "rows", mix_total: int | None = None,
    kept: tuple[Path, Path] | None = None,
) -> tuple[Path, Path]:  # fmt: skip
    """`tokenize_texts`, with `shares` (window -> share of the documents' tokens). The largest window is the encoder's.

    Held-out documents are cut at the largest. Raises `DataError` when no document is long enough for a window.
    """
    by_window = sorted(shares.items())
    parts = (list(texts), encoder.key, rows, seed, "windows", by_window)
    key = store_key(stamp, *parts, mix_by=mix_by, mix_total=mix_total)
    whole = folders[0].parent / f".{folders[0].name}.whole"
    for place in (kept or folders, folders):
        if finished_store(place[0], key):
            shutil.rmtree(whole, ignore_errors=True)
            return place
    tokenize_texts(texts, {}, (whole, folders[1]), encoder, stamp=stamp, seed=seed)
    store = TokenStore.open(whole)
    try:
        window_N = window_of_each(store.lengths, shares, random_for(seed, "extend", "windows"))
    except ValueError as error:
        raise DataError(f"windows: {error} ({', '.join(texts)}); give longer text or other shares") from None
    drawn = Drawn.of(folders[0], rows, encoder, seed=seed, stamp=stamp, by=mix_by, total=mix_total)
    items = chain(_sequences(store, window_N), drawn.items())
    size, total = drawn.rows * CHARACTERS_OF_A_ROW, len(store) + drawn.rows
    encode = EncodedOr(WindowEncoder(whole, key, encoder))
    made = tokenize(
        folders[0], items, encode, key=key, total=total, characters=size, unit="sequence", about=drawn.about
    )
    say(_realised(made.counts, shares))
    drawn.close()
    shutil.rmtree(whole, ignore_errors=True)
    return folders


def _sequences(store: TokenStore, window_N: IntArray) -> Iterator[Item]:
    """Each sequence by its number, so that whoever cuts it reads it from the map. `text` only has its size."""
    with (store.folder / "rows.jsonl").open(encoding="utf-8") as notes:
        for number, (length, window, line) in enumerate(zip(store.lengths, window_N, notes, strict=True)):
            value = {"number": number, "window": int(window), "note": json.loads(line), "text": range(int(length))}
            yield Item(f"sequence {number}", value)


def _realised(counts: Mapping[str, int], shares: Mapping[int, float]) -> str:
    """What became of the shares, in one line."""
    tokens = {window: counts.get(f"tokens_in_windows_of_{window}", 0) for window in sorted(shares)}
    total = sum(tokens.values())
    parts = [f"{n / total:.1%} at {window:,} (wanted {shares[window]:.1%})" for window, n in tokens.items()]
    left = f"; {counts['tokens_left_out']:,} tokens left out" if counts.get("tokens_left_out") else ""
    return f"windows: of {total:,} tokens {', '.join(parts)}; {counts.get('windows_cut', 0):,} cut shorter{left}"
