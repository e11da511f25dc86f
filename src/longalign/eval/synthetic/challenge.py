"""A question whose right answer is known, and how an answer is scored. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from longalign.eval.haystack import Plant

WORD = re.compile(r"\w+")
GROUPED = re.compile(r"(?<![\d,])\d{1,3}(?:,\d{3})+(?![\d,])")
NUMBER = re.compile(r"\d+")
ENGLISH = "zero one two three four five six seven eight nine ten eleven twelve"
CHINESE = "零 一 二 三 四 五 六 七 八 九 十 十一 十二"
NUMBER_WORDS = {word: str(n) for words in (ENGLISH, CHINESE) for n, word in enumerate(words.split())} | {"两": "2"}


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """A question about a text, its right values, and other values of the same form that stand in the text.

    The text is `content` as it is, or real text with `plants` in it. `placed`: so many of the first plants hold the
    answer. `sequence`: the values must be given in this order. `only_number`: any other number is wrong.
    """

    question: str
    expected: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    plants: tuple[Plant, ...] = ()
    content: str = ""
    placed: int = 1
    in_order: bool = False
    sequence: bool = False
    only_number: bool = False


@dataclass(frozen=True)
class SyntheticScore:
    """`share`: right values given, of those and the wrong ones given; `right`: all of them and no other."""

    share: float
    right: bool


def score(challenge: Challenge, answer: str) -> SyntheticScore:
    """The Jaccard index of the values asked for and the values given, so that listing everything finds nothing.

    RULER counts the right values alone; an answer that repeats the whole text would be perfect there.
    """
    if challenge.only_number:
        return _one_number(challenge.expected[0], answer)
    said = spoken(answer)
    places = {value: _place(spoken(value), said) for value in challenge.expected}
    found = [value for value, place in places.items() if place is not None]
    wrong = len(_occurring({spoken(value) for value in challenge.wrong}, said))
    if challenge.sequence:
        order = sorted(found, key=lambda value: places[value] or 0)
        right = not wrong and tuple(order) == challenge.expected
        return SyntheticScore(float(right), right)
    share = len(found) / (len(challenge.expected) + wrong)
    return SyntheticScore(share, share == 1.0)


def spoken(text: str) -> tuple[str, ...]:
    """Words of a text without case, width and grouping of digits; Han characters one by one."""
    plain = _plain(text)
    return tuple(part for word in WORD.findall(plain) for part in _parts(word))


def _plain(text: str) -> str:
    """Without case and width; `1,234,567` as 1234567."""
    return GROUPED.sub(lambda number: number[0].replace(",", ""), unicodedata.normalize("NFKC", text)).casefold()


def _parts(word: str) -> Sequence[str]:
    return re.findall(r"[㐀-䶿一-鿿]|[^㐀-䶿一-鿿]+", word)


def _place(part: Sequence[str], whole: Sequence[str]) -> int | None:
    """Where a value stands for the first time."""
    return next((i for i in range(len(whole) - len(part) + 1) if tuple(whole[i : i + len(part)]) == part), None)


def _one_number(expected: str, answer: str) -> SyntheticScore:
    """Right if this is the only number that is said, in figures; or in words where there are no figures."""
    plain = _plain(answer)
    said = {number.lstrip("0") or "0" for number in NUMBER.findall(plain)}
    said = said or {
        NUMBER_WORDS[word] for word in re.findall(r"[a-z]+|[零一二三四五六七八九十两]+", plain) if word in NUMBER_WORDS
    }
    return SyntheticScore(float(said == {expected}), said == {expected})


def _occurring(values: Collection[tuple[str, ...]], said: tuple[str, ...]) -> set[tuple[str, ...]]:
    sizes = {len(value) for value in values}
    runs = (said[i : i + size] for size in sizes for i in range(len(said) - size + 1))
    return {run for run in runs if run in values}
