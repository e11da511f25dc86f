"""Names and numbers that questions are made of: cities, people, landmarks, all different within one question."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from longalign.bundled.register import Language, word_pool


@cache
def _names(kind: str, language: Language) -> Any:
    return json.loads(files("longalign.bundled").joinpath("names.json").read_text(encoding="utf-8"))[kind][language]


def city_names(language: Language) -> list[str]:
    """Every city."""
    return list(_names("cities", language))


def landmarks(language: Language) -> dict[str, str]:
    """City -> what stands there, in words that do not name the city."""
    return dict(_names("landmarks", language))


def pairs_of_words(rng: np.random.Generator, count: int, language: Language) -> list[str]:
    """`count` different pairs of different words, such as `amber crane`."""
    pool = word_pool(language)
    return [_pair(pool, i) for i in _distinct(rng, len(pool) * (len(pool) - 1), count)]


def cities(rng: np.random.Generator, count: int, language: Language) -> list[str]:
    """`count` different cities; beyond those there are, `places`."""
    names = city_names(language)
    if count > len(names):
        return places(rng, count, language)
    return [names[i] for i in _distinct(rng, len(names), count)]


def places(rng: np.random.Generator, count: int, language: Language) -> list[str]:
    """`count` different places, each a city and two words: `Oslo amber crane`. There are millions."""
    names, pool = city_names(language), word_pool(language)
    pairs = len(pool) * (len(pool) - 1)
    drawn = (divmod(i, pairs) for i in _distinct(rng, len(names) * pairs, count))
    return [f"{names[city]} {_pair(pool, pair)}" for city, pair in drawn]


def _pair(pool: Sequence[str], number: int) -> str:
    """One of the ordered pairs of different words."""
    a, b = divmod(number, len(pool) - 1)
    return f"{pool[a]} {pool[b + (b >= a)]}"


def people(rng: np.random.Generator, count: int, language: Language) -> list[str]:
    """`count` different people by first and last name."""
    first, last = _names("first", language), _names("last", language)
    order = "{a} {b}" if language == "en" else "{b}{a}"
    places = (divmod(i, len(last)) for i in _distinct(rng, len(first) * len(last), count))
    return [order.format(a=first[a], b=last[b]) for a, b in places]


def numbers(rng: np.random.Generator, count: int, digits: int = 7) -> list[str]:
    """`count` different numbers of so many digits, none of which begins with 0."""
    low, high = 10 ** (digits - 1), 10**digits
    found: dict[int, None] = {}
    while len(found) < count:
        found |= dict.fromkeys(int(n) for n in rng.integers(low, high, size=count - len(found)))
    return [str(n) for n in found]


def uuids(rng: np.random.Generator, count: int) -> list[str]:
    """`count` random UUIDs."""
    return [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(count)]


def _distinct(rng: np.random.Generator, total: int, count: int) -> list[int]:
    """`count` different numbers below `total`, in a random order. Raises `ValueError` where there are too few."""
    if count > total:
        raise ValueError(f"{count} different names at once; there are {total}")
    if 4 * count > total:
        return [int(i) for i in rng.permutation(total)[:count]]
    found: dict[int, None] = {}
    while len(found) < count:
        found |= dict.fromkeys(int(i) for i in rng.integers(total, size=count - len(found)))
    return list(found)
