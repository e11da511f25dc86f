"""The questions in the outcome of the call for them: of a list that was complete before a cut, of one without a number.

Small models go on with answers or code until the cap. A cut reply is no data, and neither is a cut list: its questions
would come from the document's beginning more often. But where all the questions that were asked for stand before the
last blank line, what was cut is only talk behind them.
"""

from __future__ import annotations

import re

from longalign.core.text import sentences
from longalign.llm.base import Outcome, Reply
from longalign.llm.numbered import numbered_items
from longalign.llm.one_question import ASKS

BLANK_LINE = re.compile(r"\n\s*\n")
ANNOUNCED = re.compile(r"^[^:：?？؟]*\b(?:question|answers?)\b[^:：?？؟]*[:：]\W*(?=\w)", re.IGNORECASE)


def questions_in(outcome: Outcome, *, count: int) -> list[str]:
    """The questions of a call for `count` of them; none where it failed or its list may have been cut."""
    if isinstance(outcome, Reply):
        return numbered_items(outcome.text, limit=count) or _lone_question(outcome.text, count)
    return _whole_list(outcome.text, count) if outcome.kind == "truncated" else []


def _whole_list(cut_reply: str, count: int) -> list[str]:
    """The questions of a cut reply; none unless number `count` was complete."""
    gaps = list(BLANK_LINE.finditer(cut_reply.strip()))
    before = cut_reply.strip()[: gaps[-1].start()] if gaps else ""
    last = re.compile(rf"^[\W_]*(?:[^\W\d_]+\s*)?{count}\s*[^\w\s]", re.MULTILINE)
    return numbered_items(before, limit=count) if last.search(before) else _lone_question(before, count)


def _lone_question(text: str, count: int) -> list[str]:
    """The only question that was asked for, written without a number: first in the reply, or below an announcement.

    It is one sentence: `I am ready to help. What is on your mind?` is talk.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    while lines and lines[0].endswith((":", "：")):
        lines.pop(0)
    if count > 1 or not lines or not ASKS.search(lines[0]) or len(sentences(lines[0])) > 1:
        return []
    return numbered_items(f"1. {ANNOUNCED.sub('', lines[0])}", limit=1)
