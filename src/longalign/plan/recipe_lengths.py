"""The row lengths of a recipe before it has run: measured where files exist, otherwise simulated and labelled so.

Simulated chats are log-normal (median 900 tokens) and long rows lie evenly over their band, as in the paper's Figure 2
and in benchmarks/idle_time.py. With 78,000 chats and 10,000 long rows of 8k-48k tokens the next-fit run then has 1,837
steps and 12.0 sequences a pack; the log that the authors published with their code counts 1,832 steps, the paper 12.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from longalign.base.files import random_for
from longalign.base.sources import Named
from longalign.base.tokenizers import TokenCounter
from longalign.config import AssumedLengths
from longalign.core.order import IntArray
from longalign.core.text import CHARACTERS_PER_TOKEN
from longalign.core.window_mix import window_of_each
from longalign.errors import DataError
from longalign.plan.known_models import local_file

CHAT_MEDIAN_TOKENS, CHAT_SIGMA, CHAT_TOKENS = 900, 1.0, (16, 8191)
LONG_ANSWER_TOKENS = (50, 600)
LONG_ROWS = (8192, 65536)
UNKNOWN_ROWS = 10_000
SAMPLED_TEXTS, SAMPLED_CHARACTERS = 200, 20_000


@dataclass(frozen=True)
class RowLengths:
    """Tokens and targets of each row of a file, and how they were obtained. `here`: they were measured."""

    lengths_N: IntArray
    targets_N: IntArray
    basis: str
    here: bool

    def used(self, times_R: IntArray) -> RowLengths:
        """Each row as often as it is used."""
        lengths_N, targets_N = np.repeat(self.lengths_N, times_R), np.repeat(self.targets_N, times_R)
        return RowLengths(lengths_N, targets_N, self.basis, self.here)


def is_here(names: Iterable[str]) -> bool:
    """Whether every one of these files, folders and bundled names can be read now."""
    return all(Named(name).here for name in names)


def simulated_rows(name: str, *, rows: int | None, lengths: tuple[int, int] | None, why: str) -> RowLengths:
    """`rows` rows: evenly between two lengths, or chats. Depends on `name` and the arguments only."""
    assumed = "" if rows else f", {UNKNOWN_ROWS:,} of them assumed (say how many under `assume`)"
    count = rows or UNKNOWN_ROWS
    rng = random_for(0, "simulated rows", name)
    if lengths is None:
        drawn = rng.lognormal(np.log(CHAT_MEDIAN_TOKENS), CHAT_SIGMA, count)
        lengths_N = np.clip(drawn, *CHAT_TOKENS).astype(np.int64)
        targets_N = (lengths_N + 1) // 2
        basis = f"chats, log-normal with median {CHAT_MEDIAN_TOKENS:,} tokens{assumed}"
    else:
        lengths_N = rng.integers(lengths[0], lengths[1] + 1, count)
        targets_N = np.minimum(rng.integers(*LONG_ANSWER_TOKENS, count), lengths_N)
        basis = f"evenly {lengths[0]:,}-{lengths[1]:,} tokens{assumed}"
    return RowLengths(lengths_N, targets_N, f"{why}: lengths simulated, {basis}", here=False)


def assumed_rows(name: str, wanted: int | None, given: AssumedLengths | None) -> RowLengths:
    """Rows of a file that is not here yet, as the recipe's `assume` describes it."""
    lengths = given.lengths if given else None
    rows = (given.rows if given else None) or wanted
    if given and given.tokens:
        rows = max(round(given.tokens / (sum(lengths) / 2 if lengths else _mean_chat())), 1)
    return simulated_rows(name, rows=rows, lengths=lengths, why="not here yet")


def measured_rows(name: str, tokenizer: str) -> RowLengths:
    """Rows of a file that is here: by their stated length, else by characters. Raises `DataError` when it has none."""
    from longalign.data.row_counts import FileRows
    from longalign.data.source import read_rows

    stated, characters, answers = array("q"), array("q"), array("q")
    sample: list[str] = []
    left_out: Counter[str] = Counter()
    for row in read_rows(name, left_out=left_out):
        texts = [(str(message["content"] or ""), message["role"] == "assistant") for message in row["messages"]]
        characters.append(sum(len(text) for text, _ in texts))
        answers.append(sum(len(text) for text, answer in texts if answer))
        stated.append(_stated(row))
        if len(sample) < SAMPLED_TEXTS:
            sample.append("\n".join(text for text, _ in texts)[:SAMPLED_CHARACTERS])
    if not stated:
        raise DataError(f"{name}: no rows with an answer; nothing to plan ({FileRows.of(left_out).words})")
    ratio, how = characters_per_token(sample, tokenizer)
    counted_N = np.maximum(np.round(np.array(characters) / ratio), 2).astype(np.int64)
    stated_N = np.array(stated, dtype=np.int64)
    lengths_N = np.where(stated_N > 0, stated_N, counted_N)
    share_N = np.array(answers) / np.maximum(np.array(characters), 1)
    targets_N = np.clip(np.round(lengths_N * share_N), 1, lengths_N).astype(np.int64)
    basis = "lengths stated by the rows" if stated_N.all() else how
    read = FileRows.of(left_out)
    basis += f"; {read.words}" if read.left_out or read.cut else ""
    return RowLengths(lengths_N, targets_N, f"{basis}; targets by the answers' share of the characters", here=True)


def text_lengths(names: Iterable[str], tokenizer: str) -> RowLengths:
    """Documents that are here, every token a target."""
    from longalign.data.source import read_documents

    characters = array("q")
    sample: list[str] = []
    for document in read_documents(list(names)):
        characters.append(len(document.text))
        if len(sample) < SAMPLED_TEXTS:
            sample.append(document.text[:SAMPLED_CHARACTERS])
    ratio, how = characters_per_token(sample, tokenizer)
    lengths_N = np.maximum(np.round(np.array(characters) / ratio), 2).astype(np.int64)
    return RowLengths(lengths_N, lengths_N, how, here=True)


def windows(rows: RowLengths, window: int) -> RowLengths:
    """Documents cut into windows, as continued pretraining reads them; every token a target."""
    pieces_N = -(-rows.lengths_N // window)
    first_N = np.cumsum(pieces_N) - pieces_N
    place_M = np.arange(pieces_N.sum()) - np.repeat(first_N, pieces_N)
    lengths_M = np.minimum(np.repeat(rows.lengths_N, pieces_N) - place_M * window, window)
    return RowLengths(lengths_M, lengths_M, rows.basis, rows.here)


def in_shares(texts: Mapping[str, RowLengths], shares: Mapping[int, float], *, seed: int) -> dict[str, RowLengths]:
    """Windows of all `texts` together, cut and left out so that each window has its share of the tokens."""
    lengths_N = np.concatenate([rows.lengths_N for rows in texts.values()])
    try:
        window_N = window_of_each(lengths_N, shares, random_for(seed, "extend", "windows"))
    except ValueError as error:
        raise DataError(f"windows: {error} ({', '.join(texts)}); give longer text or other shares") from None
    found, start = {}, 0
    for name, rows in texts.items():
        mine_N = window_N[start : start + len(rows.lengths_N)]
        start += len(mine_N)
        kept = [windows(replace(rows, lengths_N=rows.lengths_N[mine_N == window]), window) for window in shares]
        lengths_M = np.concatenate([part.lengths_N for part in kept])
        found[name] = RowLengths(lengths_M, lengths_M, rows.basis, rows.here)
    return found


def characters_per_token(texts: list[str], tokenizer: str) -> tuple[float, str]:
    """The ratio on a sample of texts, if the tokenizer is here, and how it was obtained."""
    file = local_file(tokenizer, "tokenizer.json")
    if file is None or not any(texts):
        return CHARACTERS_PER_TOKEN, f"characters / {CHARACTERS_PER_TOKEN:g} (the tokenizer is not here yet)"
    tokens = sum(TokenCounter(str(file.parent)).counts(texts))
    ratio = sum(map(len, texts)) / max(tokens, 1)
    return ratio, f"characters / {ratio:.2f} (measured on {len(texts)} texts)"


def _stated(row: Mapping[str, Any]) -> int:
    length = row.get("length_tokens") or row.get("length")
    return length if isinstance(length, int) and length > 0 else 0


def _mean_chat() -> float:
    return CHAT_MEDIAN_TOKENS * float(np.exp(CHAT_SIGMA**2 / 2))
