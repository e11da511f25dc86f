"""Containment of word shingles, by Python sets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

WORD = re.compile(r"[㐀-䶿一-鿿]|[^\W_㐀-䶿一-鿿]+")


def shingle_set(text: str, size: int) -> set[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def repeated_share(texts: Sequence[str], size: int) -> list[float]:
    seen: set[tuple[str, ...]] = set()
    shares = []
    for text in texts:
        own = shingle_set(text, size)
        shares.append(len(own & seen) / len(own) if own else 0.0)
        seen |= own
    return shares


def contamination(document: str, evaluations: Sequence[str], size: int) -> float:
    own = shingle_set(document, size)
    shares = [0.0]
    for text in evaluations:
        other = shingle_set(text, size)
        if own and other:
            shares.append(len(own & other) / min(len(own), len(other)))
    return max(shares)


def repeated_documents(documents: Mapping[str, tuple[int, set[int]]], share: float) -> list[str]:
    """Ids of those of whose hashes at least a share is in longer ones; of equal length, the later id is the repeat."""
    seen: set[int] = set()
    found = []
    for id, (_, hashes) in sorted(documents.items(), key=lambda item: (-item[1][0], item[0])):
        if hashes and len(hashes & seen) / len(hashes) >= share:
            found.append(id)
        seen |= hashes
    return found
