"""Repeated and contaminated documents, by containment of 13-word shingles.

MinHash estimates Jaccard similarity, which is blind to a short text inside a long one. Containment is not: the share
of a text's shingles that stand in another. Long texts are compared on a fixed sample of shingles (those whose hash
falls below a bound, the same for all texts), which estimates containment without bias (FracMinHash).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 13
Hashes = NDArray[np.uint64]
_WORD = re.compile(r"[㐀-䶿一-鿿]|[^\W_㐀-䶿一-鿿]+")
_BASE, _MIX_1, _MIX_2 = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def shingles(text: str, size: int = SHINGLE_WORDS) -> Hashes:
    """Sorted distinct 64-bit hashes of every `size` neighbouring words (or Han characters), case ignored."""
    return shingles_of(word_hashes(text), size)


def shingles_of(word_W: Hashes, size: int = SHINGLE_WORDS) -> Hashes:
    """The same of a text given by `word_hashes`."""
    if len(word_W) < size:
        return np.empty(0, dtype=np.uint64)
    total_S = np.zeros(len(word_W) - size + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for place in range(size):
            total_S = total_S * _BASE + word_W[place : place + len(total_S)]
        return np.unique(_mix(total_S))


def sample(hashes: Hashes, share: float) -> Hashes:
    """The `share` of all possible hashes that is lowest: the same choice for every text."""
    return hashes if share >= 1 else hashes[hashes < np.uint64(share * 2**64)]


def repeated_share(documents: Sequence[Hashes]) -> NDArray[np.float64]:
    """For each document, the share of its shingles that occur in documents before it in the sequence.

    Put long documents first: a short one inside a long one then shows as repeated. A document without shingles
    has share 0.
    """
    counts = np.array([len(hashes) for hashes in documents], dtype=np.int64)
    if not counts.sum():
        return np.zeros(len(documents))
    all_H = np.concatenate([*documents])
    owner_H = np.repeat(np.arange(len(documents)), counts)
    order = np.lexsort((owner_H, all_H))
    first = np.r_[True, all_H[order][1:] != all_H[order][:-1]]
    first_owner = owner_H[order][np.flatnonzero(first)[np.cumsum(first) - 1]]
    seen = np.bincount(owner_H[order][first_owner < owner_H[order]], minlength=len(documents))
    return np.divide(seen, counts, out=np.zeros(len(documents)), where=counts > 0)


@dataclass(frozen=True)
class Contamination:
    """Texts of evaluations that documents must not hold: all their shingles, sorted, and the text each comes from."""

    shingle_H: Hashes
    owner_H: NDArray[np.int64]
    counts: NDArray[np.int64]
    too_short: int
    """Texts of fewer than 13 words: too little to be told from chance, and not searched."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Contamination:
        """Index evaluation texts (questions, answers, contexts)."""
        hashed = [shingles(text) for text in dict.fromkeys(texts)]
        kept = [hashes for hashes in hashed if len(hashes)]
        counts = np.array([len(hashes) for hashes in kept], dtype=np.int64)
        all_H = np.concatenate(kept) if kept else np.empty(0, dtype=np.uint64)
        order = np.argsort(all_H, kind="stable")
        owner_H = np.repeat(np.arange(len(kept)), counts)[order]
        return cls(all_H[order], owner_H, counts, len(hashed) - len(kept))

    def share(self, document: Hashes) -> float:
        """The highest containment, either way round, of an evaluation text and a document given by all its shingles."""
        if not len(document) or not len(self.shingle_H):
            return 0.0
        begin = np.searchsorted(self.shingle_H, document, side="left")
        end = np.searchsorted(self.shingle_H, document, side="right")
        hit = np.flatnonzero(end > begin)
        places = np.concatenate([np.arange(begin[i], end[i]) for i in hit]) if len(hit) else np.empty(0, dtype=np.int64)
        shared = np.bincount(self.owner_H[places], minlength=len(self.counts))
        return float((shared / np.minimum(self.counts, len(document))).max())


def word_hashes(text: str) -> Hashes:
    """One 64-bit hash a word or Han character, case ignored: a polynomial over its UTF-8 bytes, for all at once."""
    found = [word.encode() for word in _WORD.findall(text.lower())]
    if not found:
        return np.empty(0, dtype=np.uint64)
    length_W = np.array([len(word) for word in found])
    byte_B = np.frombuffer(b"".join(found), dtype=np.uint8).astype(np.uint64) + np.uint64(1)
    start_W = np.r_[0, np.cumsum(length_W)[:-1]]
    place_B = np.arange(len(byte_B)) - np.repeat(start_W, length_W)
    with np.errstate(over="ignore"):
        power_P = np.cumprod(np.full(int(length_W.max()), _MIX_1, dtype=np.uint64))
        return _mix(np.add.reduceat(byte_B * power_P[place_B], start_W))


def _mix(value: Hashes) -> Hashes:
    """SplitMix64's finaliser: spreads every bit over all others."""
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))
