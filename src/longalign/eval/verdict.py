"""Reads a judge's verdict: its own last rating, `[[n]]`, and nothing that it quotes.

An answer may hold `[[10]]`, by chance or to deceive, and a judge that quotes it has not rated it so. Quotations are:
what stands in quotes, block quotes and code, and any stretch of the verdict that repeats words of the answer around a
rating. What the judge thought before it answered is no verdict either.

A rating is read where its meaning is certain: `[[7]]`, `[[7.0]]`, `[[7/10]]` on a scale to 10, `[[**7**]]`, `[[7分]]`.
`[[7.5]]`, `[[11]]`, `[[8/10]]` on a scale to 5 and `[[6]] or [[8]]` are unreadable: a scale has whole numbers only, as
in the paper, and a guess would count like a rating.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from longalign.llm.thoughts import take_apart

BRACKETS = re.compile(r"\[\[([^\[\]]{0,40})\]\]")
NO_RATING = re.compile(r"(?:n/?a|none|null|-+|\?+)", re.IGNORECASE)
LABEL = (
    r"rat(?:ing|ings|ed|e)|scor(?:e|es|ed)|verdict|grade|marks?|points?|final|overall|total|my|the|is|an?|as|of|it|this|"
    r"i|give|answer|therefore|so|out|评分|分数|得分|最终|总分|评价|分"
)
"""Words that may stand beside anybody's rating."""
VALUE = re.compile(
    r"(?:(?:final |overall )?(?:rating|score|评分|分数|得分)\s*[:=]?\s*)?"
    r"(\d{1,3})(?:\.0+)?\s*(?:分|points?|(?:/|out of)\s*(\d{1,3})(?:\.0+)?\s*分?)?",
    re.IGNORECASE,
)
EXAMPLE = re.compile(r"(?:for example|for instance|such as|e\.g\.,?|example:|例如|比如)\W*\Z", re.IGNORECASE)
UNDECIDED = re.compile(r"\W*(?:or|to|and|between|/|-|–|~|或|或者|和|到|至)?\W*", re.IGNORECASE)
"""What stands between two ratings of which neither is the verdict."""
FENCE = re.compile(r"^[ \t]*(```|~~~).*?^[ \t]*\1[ \t]*$", re.DOTALL | re.MULTILINE)
BLOCK_QUOTE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
WITHIN = r"(?:(?!\n\s*\n).)"
INLINE = re.compile(
    rf"(?<![\w\]])\"(?=\S){WITHIN}*?(?<=\S)\"(?!\w)"
    rf"|(?<![\w\]])'(?=\S){WITHIN}*?(?<=\S)'(?!\w)"
    rf"|`{WITHIN}+?`|“{WITHIN}*?”|‘{WITHIN}*?’|«{WITHIN}*?»|「{WITHIN}*?」|『{WITHIN}*?』|„{WITHIN}*?[“”]"
    rf"|<(answer|example|reference)\b[^>]*>.*?</\1>",
    re.DOTALL,
)
TOKEN = re.compile(r"\w+|[^\w\s]")
LONGEST_STRETCH = 40
"""Words and marks to each side of a rating that are compared with the answer."""


Scale = tuple[int, int]
"""The lowest and the highest whole number that a rating may be."""


@dataclass(frozen=True)
class _Found:
    """A pair of double brackets; `value` is None where it says no rating on the scale."""

    start: int
    end: int
    value: int | None


def read_rating(text: str, scale: Scale, answer: str = "") -> int | None:
    """The rating in a judge's reply to `answer`, or None where there is none or its meaning is in doubt."""
    said = take_apart(text).answer.replace("\\[", "[").replace("\\]", "]")
    quoted = [match.span() for pattern in (FENCE, BLOCK_QUOTE, INLINE) for match in pattern.finditer(said)]
    answer_text = f" {_tokens(answer)} "
    found = [f for f in _ratings(said, scale) if not _repeats(said, f, answer_text)]
    own = [f for f in found if not any(start <= f.start and f.end <= end for start, end in quoted)]
    in_answer = {f.value for f in _ratings(answer, scale)}
    if not own:  # a rating that stands in quotes or code all by itself, "`[[7]]`", is the judge's own
        alone = [span for span in quoted if _is_alone(said[slice(*span)])]
        own = [f for f in found if f.value not in in_answer and any(s <= f.start < e for s, e in alone)]
    if not own or own[-1].value is None or _is_undecided(said, own):
        return None
    last = own[-1].value
    if last in in_answer and len({f.value for f in own}) > 1:
        return None  # its own rating, or what the answer says of itself?
    return last


def _ratings(text: str, scale: Scale) -> list[_Found]:
    """All double brackets that say something of a rating; `[[number]]` and `for example [[5]]` do not."""
    found = []
    for match in BRACKETS.finditer(text):
        inside = unicodedata.normalize("NFKC", match[1]).strip(" *_\t\n")
        says_none = NO_RATING.fullmatch(inside) is not None
        if not says_none and (not re.search(r"\d", inside) or EXAMPLE.search(text[: match.start()])):
            continue
        found.append(_Found(match.start(), match.end(), None if says_none else _value(inside, scale)))
    return found


def _value(inside: str, scale: Scale) -> int | None:
    match = VALUE.fullmatch(inside)
    if match is None or not scale[0] <= int(match[1]) <= scale[1]:
        return None
    return int(match[1]) if match[2] is None or int(match[2]) == scale[1] else None


def _is_undecided(text: str, own: list[_Found]) -> bool:
    """Whether the last rating is one of several that are named side by side."""
    if len(own) < 2:
        return False
    before, last = own[-2:]
    between = text[before.end : last.start]
    return before.value != last.value and "\n\n" not in between and UNDECIDED.fullmatch(between) is not None


def _is_alone(quotation: str) -> bool:
    """Whether a quotation holds a rating and no words but such as `Rating:`."""
    rest = BRACKETS.sub(" ", quotation)
    return not [word for word in re.findall(r"\w+", rest) if not re.fullmatch(LABEL, word, re.IGNORECASE)]


def _repeats(text: str, found: _Found, answer: str) -> bool:
    """Whether a rating stands in words of the answer: with at least one word beside it that is no label of a rating."""
    rating = _tokens(text[found.start : found.end])
    if f" {rating} " not in answer:
        return False
    reach = 20 * LONGEST_STRETCH
    before = TOKEN.findall(text[max(0, found.start - reach) : found.start].casefold())[-LONGEST_STRETCH:]
    after = TOKEN.findall(text[found.end : found.end + reach].casefold())[:LONGEST_STRETCH]
    left, right = 0, 0
    while left < len(before) and f" {' '.join([*before[len(before) - left - 1 :], rating])} " in answer:
        left += 1
    while right < len(after) and f" {' '.join([rating, *after[: right + 1]])} " in answer:
        right += 1
    beside = [*before[len(before) - left :], *after[:right]]
    return any(re.match(r"\w", word) and not re.fullmatch(LABEL, word) for word in beside)


def _tokens(text: str) -> str:
    """Words and marks, without case and spacing."""
    return " ".join(TOKEN.findall(text.casefold()))
