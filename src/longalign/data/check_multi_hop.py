"""Ingredient `multi_hop`: is a question that was asked for as one of several steps really answered by no single part?

Under 35% of self-instructed questions are (LongMIT, arXiv 2409.01893). Evidence that all lies within one part settles
it without a call. Otherwise the parts that share most with question and answer are asked, each alone; a part that gives
much the same answer shows that one look is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from longalign.config import DataSettings
from longalign.core.text import words
from longalign.data.attempt import Attempt, Rejection, Step, Turn, ask, user
from longalign.data.verify import Evidence, Passages, alike, unsupported_number
from longalign.llm.base import Request
from longalign.llm.check_prompts import write

PART_CHARS = 8000
PARTS_AT_LEAST = 4
SHORTEST_PART_CHARS = 200
COVERED_SHARE = 0.75


@dataclass(frozen=True)
class DocumentPart:
    """A stretch [start, end) of a document's characters, from sentence to sentence."""

    start: int
    end: int


def multi_hop(attempt: Attempt, turn: Turn, passages: Passages, settings: DataSettings) -> Step[Turn | Rejection]:
    """At most `multi_hop_calls` calls over a part each; other tasks than reasoning pass. Sets `hops`.

    Rejects "answered by one part" where the setting says so; else the row is relabelled when it is whole.
    """
    if attempt.task != "reasoning":
        return turn
    text = attempt.document.text
    size = part_size(len(text))
    hops = places(turn.evidence, size)
    if hops >= 2:
        for part in likely_parts(turn, passages, size, settings.multi_hop_calls):
            alone = yield from ask(
                attempt,
                "parts alone",
                Request(
                    messages=(
                        user(
                            write("part", attempt.language, before=text[part.start : part.end], question=turn.question)
                        ),
                    ),
                    max_new_tokens=settings.max_new_tokens,
                    temperature=settings.answer_temperature,
                    seed=settings.seed,
                ),
            )
            if says_the_same(turn, alone.text):
                hops = 1
                break
    if hops >= 2:
        return replace(turn, hops=hops)
    if settings.multi_hop == "reject":
        return Rejection("answered by one part", f"{size} characters", turn.question, turn.answer)
    if number := unsupported_number(turn.answer, text, turn.question):  # as for any extraction
        return Rejection("number not in the document", number, turn.question, turn.answer)
    return replace(turn, hops=1)


def relabel(attempt: Attempt) -> None:
    """A reasoning row none of whose questions needs several places is one of extraction."""
    if attempt.task == "reasoning" and attempt.turns and all(turn.hops == 1 for turn in attempt.turns):
        attempt.task = "extraction"


def part_size(characters: int) -> int:
    """Characters of a part: about 2,000 tokens, of short documents a quarter."""
    return max(SHORTEST_PART_CHARS, min(PART_CHARS, characters // PARTS_AT_LEAST))


def places(evidence: Sequence[Evidence], size: int) -> int:
    """How many parts of `size` characters are needed to hold all evidence; 0 without any."""
    found, begin = 0, 0
    for span in sorted(evidence, key=lambda e: e.start):
        if not found or span.end - begin > size:
            found, begin = found + 1, span.start
    return found


def parts(passages: Passages, size: int) -> list[DocumentPart]:
    """Parts of about `size` characters, each beginning in the middle of the one before: what lies within half a part
    is whole in one of them."""
    found: list[DocumentPart] = []
    begin = 0
    spans = passages.sentences
    while begin < len(spans):
        last = begin
        while last + 1 < len(spans) and spans[last + 1].end - spans[begin].start <= size:
            last += 1
        found.append(DocumentPart(spans[begin].start, spans[last].end))
        if last + 1 >= len(spans):
            break
        middle = spans[begin].start + size // 2
        begin = next((i for i in range(begin + 1, last + 1) if spans[i].start >= middle), last + 1)
    return found


def likely_parts(turn: Turn, passages: Passages, size: int, count: int) -> list[DocumentPart]:
    """The parts that share most with question and answer, best first; of two that are mostly the same, the better."""
    said = set(words(f"{turn.question} {turn.answer}"))
    weights = [sum(passages.weight(word) for word in sorted(said & bag)) for bag in passages.bags]
    scored = []
    for part in parts(passages, size):
        held = [i for i, span in enumerate(passages.sentences) if part.start <= span.start and span.end <= part.end]
        here = said & frozenset().union(*(passages.bags[i] for i in held)) if held else frozenset()
        scored.append(
            (-sum(passages.weight(word) for word in sorted(here)), -max((weights[i] for i in held), default=0), part)
        )
    chosen: list[DocumentPart] = []
    for _, _, part in sorted(scored, key=lambda item: (item[0], item[1], item[2].start)):
        if all(min(part.end, other.end) - max(part.start, other.start) <= 0.75 * size for other in chosen):
            chosen.append(part)
        if len(chosen) == count:
            break
    return chosen


def says_the_same(turn: Turn, reply: str) -> bool:
    """Whether a reply from one part gives the answer: much the same words, or most of what the question lacks."""
    if alike(turn.answer, reply):
        return True
    new = set(words(turn.answer)) - set(words(turn.question))
    return bool(new) and len(new & set(words(reply))) >= COVERED_SHARE * len(new)
