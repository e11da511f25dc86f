"""Sorts, shuffles and index ranges over many items, with the same result on every machine and numpy version."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
RowArray = NDArray[np.integer]
UInt64Array = NDArray[np.uint64]
_M64 = (1 << 64) - 1


def index_dtype(count: int) -> type[np.signedinteger]:
    """The smaller integer type that numbers `count` rows."""
    return np.int32 if count < 2**31 else np.int64


def stable_order(keys: RowArray, *, axis: int = -1) -> NDArray[np.integer]:
    """`argsort(keys, kind="stable")` of non-negative keys along one axis.

    The place is put into the low bits of the key and plain values are sorted, which is several times faster.
    """
    count = keys.shape[axis]
    bits = max(count - 1, 1).bit_length()
    if keys.size and int(keys.max()).bit_length() + bits > 64:
        return np.argsort(keys, axis=axis, kind="stable")
    places = np.arange(count, dtype=np.uint64)
    combined = (keys.astype(np.uint64) << np.uint64(bits)) | places
    combined.sort(axis=axis)
    combined &= np.uint64((1 << bits) - 1)
    return combined.astype(index_dtype(count))


def shuffled(count: int, seed: int, *key: int) -> NDArray[np.integer]:
    """A uniformly random order of 0..count-1 that depends on (seed, key) and on nothing else.

    Items are sorted by a 64-bit hash of their number (the splitmix64 finaliser); the low bits give way to the number
    itself, which breaks ties and is the result.
    """
    state = _mix(seed & _M64)
    for part in key:
        state = _mix(state ^ (part & _M64))
    numbers: UInt64Array = np.arange(count, dtype=np.uint64)
    hashes = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state)  # wraps around, as it should
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    low = np.uint64((1 << max(count - 1, 1).bit_length()) - 1)
    hashes &= ~low
    hashes |= numbers
    hashes.sort()
    hashes &= low
    return hashes.astype(index_dtype(count))


def _mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _M64
    return x ^ (x >> 31)


def offsets_of(sizes: RowArray) -> IntArray:
    """0 and the running sums: group g of concatenated groups is offsets[g]:offsets[g + 1]."""
    return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))


def ranges(starts: RowArray, sizes: RowArray) -> IntArray:
    """start, start + 1, ..., start + size - 1 of every group, one group after the other."""
    shifts: IntArray = np.repeat(starts - offsets_of(sizes)[:-1], sizes)
    return np.arange(len(shifts), dtype=np.int64) + shifts


def even_sizes(total: int, most: int) -> IntArray:
    """Sizes of ceil(total / most) groups that differ by at most one."""
    groups = -(-total // most)
    return np.diff(np.arange(groups + 1, dtype=np.int64) * total // groups)
