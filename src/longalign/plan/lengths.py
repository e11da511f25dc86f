"""Where a plan's lengths come from: arrays, rows to tokenise, rows that state their lengths, or a token store."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from longalign.base.tokenizers import save_with_template
from longalign.config import PlanSettings
from longalign.core.order import IntArray
from longalign.data.mix import FileShare, draw_mix, drawn_rows, file_shares, shares_of
from longalign.data.overlong import LEAST_ROOM, pieces
from longalign.data.row_counts import FileRows, reasons, said, totals
from longalign.errors import ConfigError, DataError


@dataclass(frozen=True)
class PlanLengths:
    """What is planned: tokens and targets of each sequence, its source, and what happened to rows on the way.

    mix: what is used of each row file. basis: how the lengths were obtained, for the report. counts: `overlong`,
    `dropped`, ... as in data/overlong.py.
    """

    lengths_N: IntArray
    targets_N: IntArray
    source_N: IntArray
    sources: Sequence[str]
    counts: Mapping[str, int]
    basis: str
    mix: Sequence[FileShare] = ()


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
    first = Path(next(iter(settings.data)))
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
            lengths_N, targets_N = lengths_N[keep], targets_N[keep]
        elif settings.overlong == "split":
            parts = [_split(int(n), int(t), settings.window) for n, t in zip(lengths_N, targets_N, strict=True)]
            keep = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            flat = [piece for part in parts for piece in part]
            lengths_N, targets_N = np.array(flat, np.int64).reshape(-1, 2).T
            counts["split"] = sum(len(part) > 1 for part in parts)
            counts["dropped"] = sum(not part for part in parts)
        else:
            keep = np.arange(len(lengths_N))
            counts["shortened"] = int(over_N.sum())
            lengths_N = np.minimum(lengths_N, settings.window)
            targets_N = np.minimum(targets_N, lengths_N)
        if not len(keep):
            raise DataError(f"plan: no row is left under the window of {settings.window} tokens ({settings.overlong})")
        source_N = source_N[keep]
        counts["tokens_cut"] = max(before - int(lengths_N.sum()), 0)  # fragments repeat their prompts
    return PlanLengths(lengths_N, targets_N, source_N, sources, +counts, basis)


def _split(length: int, targets: int, window: int) -> list[tuple[int, int]]:
    """(length, targets) of a row's fragments, taken to be one prompt and one answer; without a prompt, windows."""
    if length <= window:
        return [(length, targets)]
    prompt = length - targets
    if prompt == 0:
        starts = range(0, length, window)
        return [(min(length - start, window),) * 2 for start in starts]
    if window - prompt < max(window // LEAST_ROOM, 1):
        return []
    return [(prompt + context + trained, trained) for context, trained in pieces(targets, window - prompt)]


def _from_store(folder: Path, settings: PlanSettings) -> PlanLengths:
    from longalign.data.store import TokenStore

    store = TokenStore.open(folder)
    numbers_N = store.source_N.astype(np.int64)
    basis = f"token store {folder}"
    found = fit_to_window(store.lengths, store.target_counts, numbers_N, store.sources, settings, basis)
    return replace(found, mix=shares_of(store))


def _tokenised(settings: PlanSettings) -> PlanLengths:
    """Exact: the very tokens training would see, by the rule for over-long rows."""
    from longalign.data.drawn import Drawn
    from longalign.data.pool import EncodedOr
    from longalign.data.to_tokens import RowEncoder

    found = _Found()
    counts: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        tokenizer = _tokenizer(settings, folder)
        encode = RowEncoder(tokenizer, settings.window, settings.overlong, settings.train_on, settings.thinking)
        drawn = Drawn.of(
            Path(folder) / "tokens", settings.data, encode, seed=settings.seed, stamp="plan", by=settings.mix_by,
            total=settings.mix_total,
        )  # fmt: skip
        _count_left_out(drawn.read.values(), counts)
        for item in drawn.items():
            encoded, done = EncodedOr(encode)(item.value)
            counts.update(done)
            for sequence, note in encoded:
                found.add(sequence.length_tokens, sequence.target_count, note.get("source", "unknown"), note["file"])
    counts["dropped"] += sum(number for name, number in counts.items() if name.startswith("dropped_"))
    if not len(found.lengths):
        raise DataError(f"{', '.join(settings.data)}: no row has targets; nothing to plan")
    tokenised = PlanLengths(*found.arrays(), [], +counts, f"rows tokenised with {settings.tokenizer}")
    return found.named(tokenised, drawn_rows(drawn.times))


def _tokenizer(settings: PlanSettings, folder: str) -> str:
    """`settings.tokenizer`, or a copy of it in `folder` that has the settings' chat template."""
    assert settings.tokenizer is not None
    if settings.chat_template is None:
        return settings.tokenizer
    save_with_template(settings.tokenizer, settings.chat_template, folder)
    return folder


def _stated(settings: PlanSettings) -> PlanLengths:
    """From each row's `length_tokens`; targets by the assistant's share of the characters."""
    from longalign.data.drawn import items_of_rows
    from longalign.data.pool import COPIES, FILE
    from longalign.data.source import read_rows

    found = _Found()
    counts: Counter[str] = Counter()
    left_out: dict[str, Counter[str]] = {path: Counter() for path in settings.data}
    lengths = {
        path: np.fromiter((_length(row, path) for row in read_rows(path, left_out=left_out[path])), np.int64)
        for path in settings.data
    }
    read = said(left_out).values()
    _count_left_out(read, counts)
    times = draw_mix(
        settings.data, {path: len(lengths_R) for path, lengths_R in lengths.items()}, by=settings.mix_by,
        total=settings.mix_total, seed=settings.seed,
        tokens_of=lambda path: trained_tokens(lengths[path], settings),
    )  # fmt: skip
    for item in items_of_rows(times):
        row = item.value
        length = _length(row, row[FILE])
        sizes = [(message["role"] == "assistant", len(message["content"] or "")) for message in row["messages"]]
        share = sum(size for answer, size in sizes if answer) / max(sum(size for _, size in sizes), 1)
        for _ in range(row[COPIES]):
            found.add(length, max(round(length * share), 1), row["source"], row[FILE])
    if not len(found.lengths):
        raise DataError(
            f"{', '.join(settings.data)}: no rows with an answer; nothing to plan (left out: {reasons(read)})"
        )
    basis = "`length_tokens` of the rows, targets estimated from characters (add --tokenizer for exact ones)"
    planned = fit_to_window(*found.arrays(), [], settings, basis)
    return found.named(replace(planned, counts=dict(Counter(planned.counts) + counts)), drawn_rows(times))


def trained_tokens(lengths_R: IntArray, settings: PlanSettings) -> IntArray:
    """Tokens of rows of these lengths that are trained on, by the rule for rows above the window."""
    if settings.overlong == "split":
        return lengths_R
    over_R = lengths_R > settings.window
    return np.where(over_R, 0 if settings.overlong == "drop" else settings.window, lengths_R)


def _length(row: Mapping[str, Any], path: str) -> int:
    """What the row states. Raises `DataError` where it states nothing."""
    length = row.get("length_tokens") or row.get("length")
    if not isinstance(length, int) or length < 1:
        raise DataError(f"{path}: row {row['id']}: no `length_tokens`; add --tokenizer to count them")
    return length


def _count_left_out(read: Iterable[FileRows], counts: Counter[str]) -> None:
    """Conversations without a usable answer are counted as dropped."""
    read = list(read)
    counts["dropped"] += sum(rows.read - rows.used for rows in read)
    if any(rows.left_out or rows.cut for rows in read):
        counts.update(totals(read))


class _Found:
    """Lengths, targets and origins as they are met: 24 bytes a row, since there may be millions."""

    def __init__(self) -> None:
        self.lengths, self.targets, self.origin_of = array("q"), array("q"), array("q")
        self.origins: dict[tuple[str, str], int] = {}  # (source, file)

    def add(self, length: int, targets: int, source: object, file: str) -> None:
        self.lengths.append(length)
        self.targets.append(targets)
        self.origin_of.append(self.origins.setdefault((str(source), file), len(self.origins)))

    def arrays(self) -> tuple[IntArray, IntArray, IntArray]:
        lengths_N, targets_N, origin_N = (np.array(x, np.int64) for x in (self.lengths, self.targets, self.origin_of))
        return lengths_N, targets_N, origin_N

    def named(self, planned: PlanLengths, drawn: Mapping[str, Mapping[str, int]]) -> PlanLengths:
        """`planned`, whose sources are numbers of origins, with sources and files told apart."""
        sources = list(dict.fromkeys(source for source, _ in self.origins))
        source_O = np.array([sources.index(source) for source, _ in self.origins], dtype=np.int64)
        files = list(dict.fromkeys(file for _, file in self.origins))
        file_O = np.array([files.index(file) for _, file in self.origins], dtype=np.int64)
        mix = file_shares(drawn, sums_by_file(planned, file_O[planned.source_N], files))
        return replace(planned, source_N=source_O[planned.source_N], sources=sources, mix=mix)


def sums_by_file(planned: PlanLengths, file_N: IntArray, files: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """File -> sequences, tokens and targets that are planned of it."""
    each = (np.ones_like(file_N), planned.lengths_N, planned.targets_N)
    sums = np.stack([np.bincount(file_N, weights=values, minlength=len(files)) for values in each]).astype(np.int64)
    return {file: (int(sums[0, n]), int(sums[1, n]), int(sums[2, n])) for n, file in enumerate(files)}
