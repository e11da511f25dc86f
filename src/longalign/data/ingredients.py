"""The ingredients of a build: which are on, what they read besides the documents, and what they cost in calls.

    preset paper   questions -> answer -> lexical checks
    preset best    questions (by a named reader, drawn for balance) -> answer -> lexical checks -> closed book
                   -> parts alone (reasoning only) -> checker

A setting each, in `config/questions.py`; a file each in this folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from longalign.base.files import fingerprint, sha256_of
from longalign.config import DataSettings
from longalign.data.attempt import Attempt
from longalign.data.question_wishes import intents_file
from longalign.llm.check_prompts import checks_hash
from longalign.llm.prompt import wordings

PURPOSES = (
    "questions", "answers", "closed book", "parts alone", "checker", "checker again", "answerable?", "refusal",
)  # fmt: skip
EXPECTED_VERDICT_TOKENS = 60
REASONS = {
    "known without the document": "closed_book",
    "answered by one part": "multi_hop",
    "checker: not supported": "check_answers",
    "checker: not complete": "check_answers",
    "checker: not correct": "check_answers",
    "checker: no verdict": "check_answers",
    "much the same question again": "question_overlap",
    "asked of too many documents": "question_overlap",
    "answerable after all": "unanswerable",
    "no other document": "unanswerable",
    "no refusal": "unanswerable",
}
"""Reason of a rejection -> the ingredient that it is due to."""


@dataclass(frozen=True)
class ExpectedCall:
    """One kind of call: how many a candidate makes, with the whole document or without, and what it writes."""

    purpose: str
    per_row: float
    reads: Literal["document", "part", "question"]
    new_tokens: float
    by_checker: bool = False


def calls_per_row(
    settings: DataSettings, *, question_tokens: float = 30, answer_tokens: float = 300
) -> list[ExpectedCall]:
    """The calls that a candidate is expected to make, before any is made."""
    turns = settings.turns
    plain = 1 - settings.unanswerable_share
    asked = turns if settings.follow_up_questions and turns > 1 else 1
    calls = [
        ExpectedCall("questions", asked, "document", settings.questions_per_call * question_tokens),
        ExpectedCall("answers", plain * turns, "document", answer_tokens),
    ]
    if settings.closed_book:
        calls.append(ExpectedCall("closed book", plain * turns, "question", answer_tokens))
    if settings.multi_hop != "off":
        reasoning = settings.tasks.count("reasoning") / len(settings.tasks)
        calls.append(ExpectedCall("parts alone", plain * turns * reasoning * settings.multi_hop_calls, "part", 20))
    if settings.check_answers:
        calls.append(ExpectedCall("checker", plain * turns, "document", EXPECTED_VERDICT_TOKENS, by_checker=True))
    if settings.unanswerable_share:
        calls.append(ExpectedCall("answerable?", settings.unanswerable_share, "document", 5, by_checker=True))
        calls.append(ExpectedCall("refusal", settings.unanswerable_share, "document", 40))
    return calls


def ingredient_inputs(settings: DataSettings, model_fingerprint: Callable[[str], str]) -> dict[str, str]:
    """Setting -> content of what ingredients read besides the documents; empty for the paper's preset."""
    found = {}
    if not settings.plain:
        found["ingredients"] = fingerprint([checks_hash(wording) for wording in wordings(settings.prompts)])[:16]
    if settings.checker is not None:
        found["checker"] = model_fingerprint(settings.checker)
    if settings.intents is not None:
        found["intents"] = sha256_of(intents_file(settings.intents))
    return found


@dataclass
class IngredientCounts:
    """What the ingredients did over a build: calls and tokens of every candidate, the rest of the rows kept."""

    calls: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    checked: int = 0
    unscored: int = 0
    score_sums: dict[str, float] = field(default_factory=dict)
    score_counts: Counter[str] = field(default_factory=Counter)
    hops: Counter[int] = field(default_factory=Counter)
    unanswerable: int = 0
    documents_per_row: Counter[int] = field(default_factory=Counter)

    def tried(self, attempt: Attempt) -> None:
        """Count a candidate's calls."""
        self.calls.update(attempt.calls)
        self.tokens.update(attempt.tokens)

    def kept(self, attempt: Attempt) -> None:
        """Count a row."""
        self.unanswerable += not attempt.answerable
        self.documents_per_row[1 + len(attempt.companions)] += 1
        for turn in attempt.turns:
            self.checked += turn.checks is not None
            self.unscored += turn.scores is None and turn.support is not None
            if turn.hops is not None:
                self.hops[turn.hops] += 1
            for name, score in (turn.scores or {}).items():
                self.score_sums[name] = self.score_sums.get(name, 0.0) + score
                self.score_counts[name] += 1


def ingredient_report(
    settings: DataSettings, counts: IngredientCounts, reasons: Iterable[tuple[str, int]]
) -> dict[str, Any]:
    """What each ingredient did: calls and tokens by purpose, rejected by ingredient, and counts over the rows kept."""
    rejected: Counter[str] = Counter()
    for reason, count in reasons:
        if name := REASONS.get(reason):
            rejected[name] += count
    found: dict[str, Any] = {
        "preset": settings.preset,
        "on": list(settings.ingredients),
        "calls": {name: counts.calls[name] for name in PURPOSES if counts.calls.get(name)},
        "tokens": {name: counts.tokens[name] for name in PURPOSES if counts.tokens.get(name)},
        "rejected": dict(rejected.most_common()),
    }
    if settings.check_answers:
        found["answers_checked"] = counts.checked
        found["answers_unscored"] = counts.unscored if settings.scores else 0
        found["mean_scores"] = {
            name: round(total / counts.score_counts[name], 3) for name, total in sorted(counts.score_sums.items())
        }
    if settings.multi_hop != "off":
        found["hops"] = _sorted(counts.hops)
    if settings.unanswerable_share:
        found["unanswerable_rows"] = counts.unanswerable
    if settings.distractors or settings.documents_per_row > 1:
        found["documents_per_row"] = _sorted(counts.documents_per_row)
    return found


def ingredient_lines(found: Mapping[str, Any] | None) -> list[str]:
    """The report of ingredients for people; nothing for the paper's rows."""
    if not found or not found["on"]:
        return []
    calls = ", ".join(f"{name} {count:,}" for name, count in found["calls"].items())
    rejected = ", ".join(f"{name} {count:,}" for name, count in found["rejected"].items())
    lines = [f"ingredients: {', '.join(found['on'])}; rejected by them: {rejected or 'none'}", f"calls for: {calls}"]
    if found.get("mean_scores"):
        scores = ", ".join(f"{name} {score:.1f}" for name, score in found["mean_scores"].items())
        lines.append(f"the checker's mean scores: {scores}; {found['answers_unscored']:,} answers unscored")
    return lines


def _sorted(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(counts.items())}
