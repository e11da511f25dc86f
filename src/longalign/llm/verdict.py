"""Reads a checker's verdict: is an answer supported, complete, correct; and LongReward's four scores.

LongReward (arXiv 2410.21252) asks for each score in calls of its own, over facts and chunks; here one call gives all.
The lines are read leniently (`**Supported**: Yes`, `"supported": true`, `[[8]]`, `8/10`, 是/否, ja/nein), the last of a
kind counts, and what is not clearly there is None, not zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VERDICTS = ("supported", "complete", "correct")
SCORES = ("helpfulness", "logicality", "faithfulness", "completeness")
YES = ("yes", "true", "是", "对", "はい", "예", "네", "sí", "si", "oui", "ja", "да", "نعم")
_BEHIND = r"\W*[:：=]\W*"
_PLAIN = r"(?:yes|true|no|false|是|否|对|不)(?![a-z]|否|\s*(?:or|/|\||或)\s*(?:yes|no|是|否))"
_OTHER = (
    r"(?:はい|いいえ|예|네|아니요|아니오|s[ií]|oui|non|ja|nein|да|нет|نعم|لا)\b"
    r"(?!\s*(?:/|\||o\b|ou\b|oder\b|или\b|または|또는|أو))"
)
_WORD = rf"({_PLAIN}|{_OTHER})"
"""The prompts ask for `yes` or `no` in every language; a model may answer in its own all the same."""
_NUMBER = r"(\d+(?:\.\d+)?)(?!\d)(?!\s*(?:to|-|–|到|至)\s*\d)"


@dataclass(frozen=True)
class Verdict:
    """What a checker says of an answer; `scores` from 0 to 10, those that could be read."""

    supported: bool
    complete: bool
    correct: bool
    scores: Mapping[str, float]

    @property
    def fault(self) -> str | None:
        """The first thing that is wrong with the answer."""
        if not self.supported:
            return "not supported"
        if not self.correct:
            return "not correct"
        return None if self.complete else "not complete"


def read_verdict(reply: str) -> Verdict | None:
    """The verdict in a reply; None unless all three judgements are there."""
    said = {name: read_yes(reply, name) for name in VERDICTS}
    supported, complete, correct = (said[name] for name in VERDICTS)
    if supported is None or complete is None or correct is None:
        return None
    return Verdict(supported, complete, correct, read_scores(reply, SCORES))


def read_yes(reply: str, name: str) -> bool | None:
    """The last `NAME: yes` or `no` of a reply; a reply of the bare word counts too."""
    found = re.findall(rf"\b{name}\b{_BEHIND}{_WORD}", reply, re.IGNORECASE)
    if not found:
        alone = re.fullmatch(rf"\W*{_WORD}\W*", reply, re.IGNORECASE) if name == "answerable" else None
        return None if alone is None else alone[1].lower() in YES
    return str(found[-1]).lower() in YES


def read_scores(reply: str, names: Sequence[str]) -> dict[str, float]:
    """The last score of each name, if it lies between 0 and 10."""
    scores = {}
    for name in names:
        found = re.findall(rf"\b{name}\b{_BEHIND}{_NUMBER}", reply, re.IGNORECASE)
        if found and float(found[-1]) <= 10:
            scores[name] = float(found[-1])
    return scores
