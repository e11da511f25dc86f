"""Which documents are used, in which order: cutting, upsampling of long ones, language shares.

The distribution of lengths is explicit. Documents longer than the limit are cut into consecutive parts whose
lengths are drawn evenly between the minimum and the limit (the paper's long rows lie "evenly" in 8k-64k). Then
documents are drawn in random order, each remaining one with a chance proportional to length ** exponent. The
report shows the resulting histogram beside that of the corpus.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import random_for
from longalign.config import DataSettings
from longalign.errors import ConfigError

RESERVE_SHARE = 1 / 16
TOKENS_PER_TURN = 40
TOKENS_PER_ENTRY = 12
SHORTEST_TOKENS = 24
DEFAULT_MIN_TOKENS = 8192
SEARCH_SHARE = 0.1
BANDS = (0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)


@dataclass(frozen=True)
class DocumentSummary:
    """A document as selection sees it. `in_band`: it reaches the requested minimum length."""

    id: str
    language: str
    length_tokens: int
    in_band: bool = True


@dataclass(frozen=True)
class Part:
    """A stretch [start, end) of a document's characters and its tokens."""

    start: int
    end: int
    length_tokens: int


@dataclass(frozen=True)
class DocumentLengths:
    """Tokens that a document may have, resolved from the settings once. `min_part`: the shortest part of a longer one.

    max: so that question and answer fit its row (4,096 of 65,536 are kept for them).
    """

    min: int
    min_part: int
    max: int

    @classmethod
    def of(cls, settings: DataSettings) -> DocumentLengths:
        """Raises `ConfigError` when `reserve_tokens` leaves a document no room."""
        row = settings.max_length_tokens
        needed = TOKENS_PER_TURN * settings.turns + TOKENS_PER_ENTRY * settings.register_entries
        reserve = settings.reserve_tokens or min(max(int(row * RESERVE_SHARE), needed), row // 2)
        if reserve >= row:
            raise ConfigError(f"reserve_tokens {reserve} leaves no room in rows of {row} tokens; lower it")
        longest = row - reserve
        part = min(settings.min_length_tokens or min(DEFAULT_MIN_TOKENS, longest // 2), longest)
        return cls(settings.min_length_tokens or SHORTEST_TOKENS, part, longest)


def cut(text: str, ends_T: NDArray[np.int64], *, shortest: int, limit: int, seed: int, key: str) -> list[Part]:
    """Consecutive parts of at most `limit` tokens, ending at paragraphs, lines or sentences where one is near.

    ends_T: character offset behind each token. A text within the limit is one part. What would be left over below
    `shortest` is shared with the part before it.
    """
    rng = random_for(seed, "cut", key)
    shortest = min(shortest, limit)
    parts: list[Part] = []
    first = 0
    total = len(ends_T)
    while first < total:
        left = total - first
        wanted = left
        if left > limit:
            wanted = int(rng.integers(shortest, limit + 1))
            if left - wanted < shortest:
                wanted = -(-left // 2) if shortest <= left // 2 <= limit else limit
        last = first + wanted
        start_char = int(ends_T[first - 1]) if first else 0
        if last < total:
            end_char = _near_break(text, start_char, int(ends_T[last - 1]))
            last = int(np.searchsorted(ends_T, end_char, side="right"))
            if last - first > limit:  # the limit falls inside a character of several tokens
                last = int(np.searchsorted(ends_T, ends_T[last - 1], side="left"))
            last = max(first + 1, last)
            end_char = int(ends_T[last - 1])
        else:
            end_char = len(text)
        parts.append(Part(start_char, end_char, last - first))
        first = last
    return parts


def draw_order(documents: Sequence[DocumentSummary], *, exponent: float, seed: int) -> list[DocumentSummary]:
    """All documents in a random order weighted by length ** exponent (an exponential race keyed by document id)."""
    return [documents[place] for place in _draw(documents, range(len(documents)), exponent=exponent, seed=seed)]


def candidates(
    documents: Sequence[DocumentSummary], *, passes: int, exponent: float, seed: int, group: str | None = None
) -> Iterator[tuple[DocumentSummary, int]]:
    """(document, pass) in the order of trying: all that reach the minimum, pass by pass, then the shorter ones.

    `group`: only documents of that group of languages (`group_of`). Places, not documents, are kept in memory.
    """
    for wanted in (True, False):
        places = array("q")
        for place, document in enumerate(documents):
            if document.in_band == wanted and group in (None, group_of(document.language)):
                places.append(place)
        order = _draw(documents, places, exponent=exponent, seed=seed)
        for number in range(passes):
            for place in order:
                yield documents[place], number


def group_of(language: str) -> str:
    """The group whose share of the rows is set: Chinese, or all others."""
    return "zh" if language == "zh" else "other"


def _draw(
    documents: Sequence[DocumentSummary], places: Sequence[int], *, exponent: float, seed: int
) -> NDArray[np.int64]:
    arrivals = np.empty(len(places))
    for number, place in enumerate(places):
        document = documents[place]
        draw = random_for(seed, "order", document.id).exponential()
        arrivals[number] = draw / float(document.length_tokens) ** exponent
    order = np.argsort(arrivals, kind="stable")
    found = np.asarray(places, dtype=np.int64)[order]
    if (np.diff(arrivals[order]) == 0).any():  # equal arrivals go by id
        by_id = sorted(range(len(places)), key=lambda number: (arrivals[number], documents[places[number]].id))
        found = np.asarray(places, dtype=np.int64)[by_id]
    return found


def language_quotas(documents: Sequence[DocumentSummary], rows: int, chinese_share: float | None) -> dict[str, int]:
    """Rows wanted of Chinese and of other documents. The default share, 10%, holds where there are both."""
    chinese = sum(group_of(document.language) == "zh" for document in documents)
    others = len(documents) - chinese
    if not chinese or not others:
        return {"zh": rows if chinese and not others else 0, "other": rows if others else 0}
    share = 0.1 if chinese_share is None else chinese_share
    return {"zh": round(share * rows), "other": rows - round(share * rows)}


def histogram(lengths_tokens: Sequence[int]) -> dict[str, int]:
    """Counts in bands of powers of two; empty bands at both ends are left out."""
    counts = np.histogram(lengths_tokens, bins=[*BANDS, np.inf])[0].tolist()
    names = [f"{_short(low)}-{_short(high)}" for low, high in pairwise(BANDS)]
    pairs = list(zip([*names, f"{_short(BANDS[-1])}+"], counts, strict=True))
    used = [i for i, (_, count) in enumerate(pairs) if count]
    return dict(pairs[used[0] : used[-1] + 1]) if used else {}


def _near_break(text: str, start: int, end: int) -> int:
    """The last paragraph, line or sentence end in the final tenth of [start, end), else `end`."""
    low = end - max(1, int((end - start) * SEARCH_SHARE))
    for pattern in (r"\n\s*\n", r"\n", r"[.!?]\s|[。！？]"):
        found = [match.end() for match in re.finditer(pattern, text[low:end])]
        if found:
            return low + found[-1]
    return end


def _short(tokens: int) -> str:
    return f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)
