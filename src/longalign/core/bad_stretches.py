"""Stretches of lines that are no text although what surrounds them is: contents pages, link lists, navigation bars.

Each rule says what a line of its kind looks like and how many of them make a stretch. Blank lines and the white space
around a line never matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from longalign.core.navigation_words import NAVIGATION_WORDS

LONGEST_LINE = 400
SAME_LINES = 20


@dataclass(frozen=True)
class Stretch:
    """Lines [first, end) of a text, and what they are."""

    first: int
    end: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a line of one kind looks like. A stretch has `fewest` of them, `share` of its lines, others up to `gap`.

    A line that reads like a sentence always ends a stretch. follows: whether a line may stand behind another one.
    hint: something that the text must hold; it spares a look at every line of most texts.
    holds: what else must be true of the lines together.
    """

    reason: str
    is_one: Callable[[str], bool]
    hint: re.Pattern[str]
    fewest: int
    share: float = 0.8
    gap: int = 2
    longest: int = LONGEST_LINE
    follows: Callable[[str, str], bool] = lambda before, line: True
    holds: Callable[[Sequence[str]], bool] = lambda lines: True


LEADER = re.compile(r"(?:[.·・‥]\s?){4,}|…{2,}|_{6,}")
LEADER_MARKS = ("..", ". .", "…", "··", "・・", "‥", "___")
PAGE_AT_END = re.compile(r"(?:[.·・‥…_]\s?)+\s*(?:\d[\d.–-]{0,7}|[ivxlcdm]{1,7}|[IVXLCDM]{1,7}|[A-Z]-?\d{1,3})$")
INDEX_ENTRY = re.compile(r"([^\W\d_].{0,99}?),?\s+(\d{1,4}(?:[-–]\d{1,4})?(?:,\s*\d{1,4}(?:[-–]\d{1,4})?)*)")
TAG_OF_INFO = re.compile("(?:Node|Ref): .+\x7f\\d+")
NUMBERED_TITLE = re.compile(r"(?:(?:\d{1,3}\.)*\d{1,3}\.?|[A-Z]\.(?:\d{1,3}\.)*\d{0,3}\.?)\s+\S.{0,90}")
LINK = re.compile(
    r"(?:[-*+•]|\d+[.)])?\s*(?:\[[^\]]*\]\(\S+?\)|\[[^\]]+\]:\s*\S+|<?(?:https?|ftp)://\S+|www\.\S+)(?:\s*\"[^\"]*\")?[\s.,;>)]*"
)
ENCODED = re.compile(r"[A-Za-z0-9+/]{56,}={0,2}|[0-9a-fA-F]{56,}|M[\x21-\x60]{58,62}")
LAST_OF_BASE64 = re.compile(r"[A-Za-z0-9+/]{2,}={1,2}")
AROUND_ENCODED = "\"'+,;()\\ "
ENCODED_LENGTH = 56
NUMBERS = re.compile(r"[-\d\s.,;:|+−–/%()\[\]{}<>=*$€£#'\"xXeEa-fA-F\\]+")
SENTENCE = re.compile(r"[^\W\d_]{2,}[.!?]$|[。！？]$|.{160}")
LETTERS = re.compile(r"[^\W\d_]{2,}")
BETWEEN_ITEMS = re.compile(r"\s*[|»«›‹→←▲▼•·>]+\s*|\]\s*\[|\s{2,}|\t")
MARK_BETWEEN_ITEMS = re.compile(r"[|»«›‹→←▲▼•·>\]\t:]|\s\s")
LABELLED = re.compile(r"\b(?:next|previous|prev|up)\s*:\s*[^,|]{1,80}", re.IGNORECASE)
CONTENTS_HINT = re.compile(r"\.{4}|(?:\. ){3}|…{2}|·{4}|・{4}|_{6}")


def bad_stretches(text: str) -> list[Stretch]:
    """What to cut out of a text, in order; stretches do not overlap."""
    lines = text.split("\n")
    filled = [(number, stripped) for number, line in enumerate(lines) if (stripped := line.strip())]
    found: list[Stretch] = []
    for rule in RULES:
        if rule.hint.search(text):
            found.extend(_stretches(filled, rule))
    found.extend(_same_lines(filled))
    return _apart(found)


def without(text: str, stretches: Sequence[Stretch]) -> str:
    """The text without them."""
    lines = text.split("\n")
    for stretch in reversed(stretches):
        del lines[stretch.first : stretch.end]
        before, after = stretch.first > 0 and not lines[stretch.first - 1].strip(), lines[stretch.first :][:1]
        if before and after and not after[0].strip():  # one blank line where there were two
            del lines[stretch.first]
    return "\n".join(lines).strip()


def in_order(names: Sequence[str]) -> float:
    """The share of neighbours that stand in alphabetical order, case and signs ignored."""
    keys = ["".join(char for char in name.lower() if char.isalnum()) for name in names]
    return sum(first < second for first, second in pairwise(keys)) / max(1, len(keys) - 1)


def _stretches(filled: Sequence[tuple[int, str]], rule: Rule) -> Iterator[Stretch]:
    hits = [place for place, (_, line) in enumerate(filled) if len(line) <= rule.longest and rule.is_one(line)]
    start = 0
    for end in range(1, len(hits) + 1):
        if end < len(hits) and _goes_on([line for _, line in filled[hits[end - 1] : hits[end] + 1]], rule):
            continue
        run, start = hits[start:end], end
        dense = len(run) >= rule.fewest and len(run) >= rule.share * (run[-1] - run[0] + 1)
        if dense and rule.holds([filled[place][1] for place in run]):
            yield Stretch(filled[run[0]][0], filled[run[-1]][0] + 1, rule.reason)


def _goes_on(lines: Sequence[str], rule: Rule) -> bool:
    """Whether the last line belongs to the stretch of the first one; those between are of another kind."""
    between = lines[1:-1]
    return len(between) <= rule.gap and not any(map(SENTENCE.search, between)) and rule.follows(lines[0], lines[-1])


def _same_lines(filled: Sequence[tuple[int, str]]) -> Iterator[Stretch]:
    """All but the first of very many equal lines in a row."""
    for line, group in groupby(filled, key=lambda item: item[1]):
        numbers = [number for number, _ in group]
        if len(numbers) >= SAME_LINES and LETTERS.search(line):
            yield Stretch(numbers[1], numbers[-1] + 1, "repetition")


def _apart(found: list[Stretch]) -> list[Stretch]:
    """Without those that begin inside another."""
    kept: list[Stretch] = []
    for stretch in sorted(found, key=lambda one: (one.first, -one.end)):
        if not kept or stretch.first >= kept[-1].end:
            kept.append(stretch)
    return kept


def _is_contents(line: str) -> bool:
    leader = LEADER.search(line) if any(map(line.__contains__, LEADER_MARKS)) else None
    if leader is None or not line[: leader.start()].strip(" .\t"):
        return False
    return PAGE_AT_END.search(line, leader.start()) is not None


def _is_index_entry(line: str) -> bool:
    return line[-1].isdigit() and INDEX_ENTRY.fullmatch(line) is not None


def _is_an_index(lines: Sequence[str]) -> bool:
    """Alphabetical, with pages that grow, several of them on some lines."""
    found = [match for line in lines if (match := INDEX_ENTRY.fullmatch(line))]
    pages = [[int(number) for number in re.findall(r"\d+", match[2])] for match in found]
    several = [numbers for numbers in pages if len(numbers) > 1]
    growing = sum(numbers == sorted(numbers) for numbers in several)
    names = [match[1] for match in found]
    return len(several) >= 0.15 * len(lines) and growing >= 0.9 * len(several) and in_order(names) >= 0.8


def _is_numbered_title(line: str) -> bool:
    return NUMBERED_TITLE.fullmatch(line) is not None and line[-1] not in ".;:,!?。！？；：，" and "|" not in line


def _counts_up(before: str, line: str) -> bool:
    """Whether the number of a section can follow another one: 1.2, 1.2.1; 1.2.1, 1.3; 9.4, A.1."""
    first, second = (
        [int(part) if part.isdigit() else 1000 + ord(part) for part in re.findall(r"\d+|[A-Z]", text.split()[0])]
        for text in (before, line)
    )
    return second > first


def _is_an_outline(lines: Sequence[str]) -> bool:
    """Sections of several levels: a contents page without pages."""
    return sum(line.split()[0].rstrip(".").count(".") > 0 for line in lines) >= 0.3 * len(lines)


def _is_encoded(line: str) -> bool:
    """Base64, hexadecimal or uuencoded."""
    line = line.strip(AROUND_ENCODED)
    if len(line) < ENCODED_LENGTH:
        return LAST_OF_BASE64.fullmatch(line) is not None
    return " " not in line and ENCODED.fullmatch(line) is not None and len(re.findall(r"\d", line)) > 1


def _is_numbers(line: str) -> bool:
    if NUMBERS.fullmatch(line) is None:
        return False
    return 2 * len(re.findall(r"\d", line)) >= max(1, len(re.findall(r"\w", line)))


def _is_navigation(line: str) -> bool:
    if not MARK_BETWEEN_ITEMS.search(line):
        return line.lower() in NAVIGATION_WORDS
    items = _items(line)
    known = sum(item in NAVIGATION_WORDS for item in items)
    if items and (known == len(items) or (len(items) > 2 and known >= 0.6 * len(items))):
        return True
    return len(LABELLED.findall(line)) >= 2


def _is_a_bar(lines: Sequence[str]) -> bool:
    """Three names of pages at least, or the way to the next and to the last page."""
    names = sum(len(_items(line)) for line in lines)
    return names > 2 or any(len(LABELLED.findall(line)) >= 2 for line in lines)


def _items(line: str) -> list[str]:
    return [item.lower() for item in BETWEEN_ITEMS.split(line.strip("[]")) if item]


ANY = re.compile("")
RULES = (
    Rule(reason="contents page", is_one=_is_contents, hint=CONTENTS_HINT, fewest=5, share=0.6, gap=3),
    Rule(reason="contents page", is_one=_is_numbered_title, hint=re.compile(r"^\s*(?:\d+|[A-Z])\.\d", re.M), fewest=15,
         share=0.85, longest=120, follows=_counts_up, holds=_is_an_outline),
    Rule(reason="index", is_one=_is_index_entry, hint=re.compile(r", \d+(?:[-–]\d+)?, ?\d+"), fewest=20, share=0.7,
         gap=3, longest=160, holds=_is_an_index),
    Rule(reason="index", is_one=lambda line: TAG_OF_INFO.fullmatch(line) is not None, hint=re.compile("\x7f"),
         fewest=3),
    Rule(reason="list of links", is_one=lambda line: LINK.fullmatch(line) is not None, hint=re.compile("://|www\\."),
         fewest=8, longest=1000),
    Rule(reason="encoded data", is_one=_is_encoded, hint=ANY, fewest=6, share=0.9, gap=1, longest=100_000),
    Rule(reason="table of numbers", is_one=_is_numbers, hint=ANY, fewest=300, share=0.9, longest=100_000),
    Rule(reason="navigation", is_one=_is_navigation, hint=ANY, fewest=1, share=0.9, gap=0, longest=200,
         holds=_is_a_bar),
)  # fmt: skip
