"""Shingles of many documents in few arrays, to find those that are repeated inside others.

At most 20 million shingles are kept (160 MB), and 48 bytes a document. Beyond that all documents keep the same sample
of hashes, which estimates containment without bias (core/shingles.py).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from longalign.core.shingles import Hashes, sample

SHINGLES_KEPT = 20_000_000
BUCKETS = 16
ID_BYTES = 32


class Sketches:
    """Shingles of the usable documents; beyond a bound on memory, all of them keep the same sample of hashes."""

    def __init__(self, most: int = SHINGLES_KEPT) -> None:
        self.most = most
        self.share = 1.0
        self._ids = bytearray()
        self._lengths = array("q")
        self._counts = array("q")
        self._hashes: Hashes = np.empty(min(most, 1 << 20), dtype=np.uint64)
        self._kept = 0

    def add(self, id: str, length_tokens: int, hashes: Hashes) -> None:
        """Remember one document. `id`: a SHA-256 in hexadecimal."""
        self._append(sample(hashes, self.share))
        self._ids += bytes.fromhex(id)
        self._lengths.append(length_tokens)
        while self._kept > self.most:
            self._thin()

    def repeated(self, share: float) -> Iterator[tuple[str, int]]:
        """(id, length) of documents of which at least `share` stands in longer ones, the longest first.

        Of equally long ones, those whose id comes later stand in those before.
        """
        order_D, seen_D = self._order(), self._seen()
        counts_D = np.frombuffer(self._counts, dtype=np.int64)
        for place in order_D:
            if counts_D[place] and seen_D[place] / counts_D[place] >= share:
                start = ID_BYTES * int(place)
                yield self._ids[start : start + ID_BYTES].hex(), self._lengths[place]

    def _order(self) -> NDArray[np.int64]:
        """Places of the documents, the longest first."""
        words_DI = np.frombuffer(self._ids, dtype=">u8").reshape(-1, ID_BYTES // 8)
        lengths_D = np.frombuffer(self._lengths, dtype=np.int64)
        return np.lexsort((*words_DI.T[::-1], -lengths_D))

    def _seen(self) -> NDArray[np.int64]:
        """Of each document, how many of its hashes an earlier document in `_order` has. A bucket at a time."""
        documents = len(self._lengths)
        rank_D = np.empty(documents, dtype=np.int32)
        rank_D[self._order()] = np.arange(documents, dtype=np.int32)
        hash_H = self._hashes[: self._kept]
        rank_H = np.repeat(rank_D, np.frombuffer(self._counts, dtype=np.int64))
        seen_R = np.zeros(documents, dtype=np.int64)
        edges = np.linspace(0, self.share * 2**64, BUCKETS + 1)[1:-1].astype(np.uint64)
        bucket_H = np.searchsorted(edges, hash_H, side="right").astype(np.uint8) if len(hash_H) else hash_H
        for bucket in range(BUCKETS if len(hash_H) else 0):
            here = bucket_H == bucket
            hashes, ranks = hash_H[here], rank_H[here]
            if not len(hashes):
                continue
            by_hash = np.argsort(hashes)
            hashes, ranks = hashes[by_hash], ranks[by_hash]
            starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
            first = np.repeat(np.minimum.reduceat(ranks, starts), np.diff(np.r_[starts, len(ranks)]))
            seen_R += np.bincount(ranks[first < ranks], minlength=documents)
        return seen_R[rank_D]

    def _thin(self) -> None:
        """Keep half of the hashes of every document: the lower ones."""
        self.share /= 2
        hash_H = self._hashes[: self._kept]
        stays_H = hash_H < np.uint64(self.share * 2**64)
        owner_H = np.repeat(np.arange(len(self._counts), dtype=np.int32), np.frombuffer(self._counts, dtype=np.int64))
        counts_D = np.bincount(owner_H[stays_H], minlength=len(self._counts))
        stay = hash_H[stays_H]
        self._hashes[: len(stay)] = stay
        self._kept = len(stay)
        self._counts = array("q", counts_D.astype(np.int64).tobytes())

    def _append(self, hashes: Hashes) -> None:
        end = self._kept + len(hashes)
        if end > len(self._hashes):
            larger = np.empty(max(end, len(self._hashes) * 3 // 2), dtype=np.uint64)
            larger[: self._kept] = self._hashes[: self._kept]
            self._hashes = larger
        self._hashes[self._kept : end] = hashes
        self._kept = end
        self._counts.append(len(hashes))
