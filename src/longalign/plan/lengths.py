"""Where a plan's lengths come from: arrays, rows to tokenise, rows that state their lengths, or a token store."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from longalign.base.tokenizers import save_with_template
from longalign.config import PlanSettings
from longalign.core.order import IntArray
from longalign.errors import ConfigError, DataError


@dataclass(frozen=True)
class PlanLengths:
    """What is planned: tokens and targets of each sequence, its source, and what happened to rows on the way.

    basis: how the lengths were obtained, for the report. counts: `overlong`, `dropped`, ... as in data/overlong.py.
    """

    lengths_N: IntArray
    targets_N: IntArray
    source_N: IntArray
    sources: Sequence[str]
    counts: Mapping[str, int]
    basis: str


def read_lengths(settings: PlanSettings) -> PlanLengths:
    """Lengths as `settings` name them, over-long rows already treated. Raises ConfigError or DataError."""
    if (settings.lengths is None) == (not settings.data):
        raise ConfigError("plan: give either --lengths FILE.npy or --data ROWS.jsonl (one of the two)")
    if settings.lengths is not None:
        lengths_N = _load(settings.lengths, "lengths")
        targets_N = lengths_N if settings.targets is None else _load(settings.targets, "targets")
        if targets_N.shape != lengths_N.shape:
            raise DataError(f"{settings.targets}: {len(targets_N)} target counts for {len(lengths_N)} lengths")
        short = np.flatnonzero(lengths_N < 1)
        if len(short):
            raise DataError(
                f"{settings.lengths}: row {short[0]} has {lengths_N[short[0]]} tokens; at least 1 is needed"
            )
        wrong = np.flatnonzero((targets_N < 0) | (targets_N > lengths_N))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(f"{settings.targets}: row {row} has {targets_N[row]} targets in {lengths_N[row]} tokens")
        basis = settings.lengths + ("" if settings.targets else ", every token a target")
        return fit_to_window(lengths_N, targets_N, np.zeros_like(lengths_N), ["all"], settings, basis)
    first = Path(settings.data[0])
    if (first / "store.json").exists():
        return _from_store(first, settings)
    return _tokenised(settings) if settings.tokenizer else _stated(settings)


def _load(path: str, what: str) -> IntArray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a .npy array of {what} ({error})") from None
    if not isinstance(array, np.ndarray) or array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{path}: {what} must be a flat array of whole numbers")
    if not len(array):
        raise DataError(f"{path}: no {what} in it")
    return array.astype(np.int64)


def fit_to_window(
    lengths_N: IntArray, targets_N: IntArray, source_N: IntArray, sources: Sequence[str],
    settings: PlanSettings, basis: str,
) -> PlanLengths:  # fmt: skip
    """Treat rows above the window when only counts are known: shortened ones keep as many targets as still fit."""
    over_N = lengths_N > settings.window
    counts: Counter[str] = Counter()
    if over_N.any():
        counts["overlong"] = int(over_N.sum())
        before = int(lengths_N.sum())
        if settings.overlong == "drop":
            keep = np.flatnonzero(~over_N)
            counts["dropped"] = int(over_N.sum())
        else:
            pieces_N = -(-lengths_N // settings.window) if settings.overlong == "split" else np.ones_like(lengths_N)
            keep = np.repeat(np.arange(len(lengths_N)), pieces_N)
            counts["split" if settings.overlong == "split" else "shortened"] = int(over_N.sum())
        if not len(keep):
            raise DataError(f"plan: every row is above the window of {settings.window} tokens and `overlong` is drop")
        lengths_N, targets_N, source_N = lengths_N[keep], targets_N[keep], source_N[keep]
        if settings.overlong == "split":  # full windows, then the rest; targets in proportion
            first = np.concatenate(([True], keep[1:] != keep[:-1]))
            piece = np.arange(len(keep)) - np.flatnonzero(first)[np.cumsum(first) - 1]
            whole = lengths_N
            lengths_N = np.minimum(whole - piece * settings.window, settings.window)
            targets_N = targets_N * lengths_N // whole
        else:
            lengths_N = np.minimum(lengths_N, settings.window)
            targets_N = np.minimum(targets_N, lengths_N)
        counts["tokens_cut"] = before - int(lengths_N.sum())
    return PlanLengths(lengths_N, targets_N, source_N, sources, counts, basis)


def _from_store(folder: Path, settings: PlanSettings) -> PlanLengths:
    from longalign.data.store import TokenStore

    store = TokenStore.open(folder)
    numbers_N = store.source_N.astype(np.int64)
    basis = f"token store {folder}"
    return fit_to_window(store.lengths, store.target_counts, numbers_N, store.sources, settings, basis)


def _tokenised(settings: PlanSettings) -> PlanLengths:
    """Exact: the very tokens training would see, by the rule for over-long rows."""
    from longalign.data.to_tokens import RowEncoder

    found = _Found()
    counts: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        tokenizer = _tokenizer(settings, folder)
        encode = RowEncoder(tokenizer, settings.window, settings.overlong, settings.train_on, settings.thinking)
        for row in _rows(settings.data, counts):
            encoded, done = encode(row)
            counts.update(done)
            for sequence, note in encoded:
                found.add(sequence.length_tokens, sequence.target_count, note.get("source", "unknown"))
    counts["dropped"] += counts["dropped_overlong"] + counts["dropped_without_targets"]
    if not len(found.lengths):
        raise DataError(f"{', '.join(settings.data)}: no row has targets; nothing to plan")
    return PlanLengths(*found.arrays(), list(found.sources), +counts, f"rows tokenised with {settings.tokenizer}")


def _tokenizer(settings: PlanSettings, folder: str) -> str:
    """`settings.tokenizer`, or a copy of it in `folder` that has the settings' chat template."""
    assert settings.tokenizer is not None
    if settings.chat_template is None:
        return settings.tokenizer
    save_with_template(settings.tokenizer, settings.chat_template, folder)
    return folder


def _stated(settings: PlanSettings) -> PlanLengths:
    """From each row's `length_tokens`; targets by the assistant's share of the characters."""
    found = _Found()
    counts: Counter[str] = Counter()
    for row in _rows(settings.data, counts):
        length = row.get("length_tokens") or row.get("length")
        if not isinstance(length, int) or length < 1:
            where = f"{row['_file']}: row {row['id']}"
            raise DataError(f"{where}: no `length_tokens`; add --tokenizer to count them")
        sizes = [(message["role"] == "assistant", len(message["content"] or "")) for message in row["messages"]]
        share = sum(size for answer, size in sizes if answer) / max(sum(size for _, size in sizes), 1)
        found.add(length, max(round(length * share), 1), row["source"])
    if not len(found.lengths):
        raise DataError(f"{', '.join(settings.data)}: no rows with an answer; nothing to plan ({dict(counts)})")
    basis = "`length_tokens` of the rows, targets estimated from characters (add --tokenizer for exact ones)"
    planned = fit_to_window(*found.arrays(), list(found.sources), settings, basis)
    return replace(planned, counts=dict(Counter(planned.counts) + counts))


def _rows(paths: Sequence[str], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """Rows of all files; conversations without a usable answer are counted as dropped."""
    from longalign.data.row_counts import said, totals
    from longalign.data.source import read_rows

    left_out: dict[str, Counter[str]] = {path: Counter() for path in paths}
    for path in paths:
        for row in read_rows(path, left_out=left_out[path]):
            yield row | {"_file": path}
    read = said(left_out).values()
    counts["dropped"] += sum(rows.read - rows.used for rows in read)
    if any(rows.left_out or rows.cut for rows in read):
        counts.update(totals(read))


class _Found:
    """Lengths, targets and sources as they are met: 24 bytes a row, since there may be millions."""

    def __init__(self) -> None:
        self.lengths, self.targets, self.source_of = array("q"), array("q"), array("q")
        self.sources: dict[str, int] = {}

    def add(self, length: int, targets: int, source: object) -> None:
        self.lengths.append(length)
        self.targets.append(targets)
        self.source_of.append(self.sources.setdefault(str(source), len(self.sources)))

    def arrays(self) -> tuple[IntArray, IntArray, IntArray]:
        lengths_N, targets_N, source_N = (np.array(x, np.int64) for x in (self.lengths, self.targets, self.source_of))
        return lengths_N, targets_N, source_N
