"""Short skills, scored exactly: did long training damage them? (paper section 4.4, the question behind Table 3)

Questions with one right answer come from the bundled generator's held-out split, or from the user's own rows: the last
assistant turn is the reference, and `answers` may hold others that are as right. Same questions for every model, so
differences can be tested in pairs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from longalign.bundled.skills import short_rows
from longalign.config import ShortSettings
from longalign.data.source import read_rows
from longalign.errors import DataError
from longalign.eval.results import Compared, ModelFacts, Row, Tally, mean_of, tally
from longalign.eval.task import Cost, ExactTask, Question, Reads, kinds, shown
from longalign.eval.token_view import TokenView

ENDINGS = " .。!！"
PROMPT_TOKENS = 100
"""About as long as the generator's prompts are; only to plan with."""


@dataclass(frozen=True, kw_only=True)
class ShortTally(Tally):
    """Share of exact answers, and of answers that contain the right one."""

    contains_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class ShortResults:
    """Shares over all questions and by kind, and where the questions came from."""

    rows: str
    language: str
    overall: ShortTally
    by_kind: dict[str, ShortTally]


class Short(ExactTask[ShortSettings, Question]):
    """Task `short`."""

    name = "short"
    title = "Short skills"
    settings_class = ShortSettings
    compared = Compared(figure="score.exact")

    def reads(self) -> Reads:
        return Reads(files={"rows": [self.settings.rows] if self.settings.rows else []})

    def questions(self, view: TokenView) -> list[Question]:
        return [question_of(row, self.settings.max_new_tokens) for row in held_out_rows(self.settings)]

    def score(self, question: Question, answer: str) -> dict[str, bool]:
        said, accepted = normalise(answer), [normalise(text) for text in question.accepted]
        return {"exact": said in accepted, "contains": any(wanted in said for wanted in accepted)}

    def summarise(self, rows: Sequence[Row], model: ModelFacts) -> ShortResults:
        return ShortResults(
            rows=self.settings.rows or "builtin:short (held-out split)",
            language=self.settings.language,
            overall=shares(rows),
            by_kind={kind: shares(row for row in rows if row["kind"] == kind) for kind in kinds(rows)},
        )

    def cost(self, window: int) -> Cost:
        return Cost(np.full(self.settings.questions, PROMPT_TOKENS))

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        row = results["overall"]
        lines = [f"short skills of {results['label']}: {shown(row)} exactly right"]
        lines += [f"{kind:>12} {shown(r)}" for kind, r in results["by_kind"].items()]
        return lines + ([f"note: {row['failed']} of {row['questions']} have no answer"] if row["failed"] else [])


def held_out_rows(settings: ShortSettings) -> list[dict[str, Any]]:
    """The questions: the first `questions` of the user's rows, or held-out ones of the generator."""
    if settings.rows is None:
        return list(short_rows(settings.questions, seed=settings.seed, split="heldout", language=settings.language))
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(read_rows(settings.rows), start=1):
        if row["messages"][-1]["role"] != "assistant" or len(row["messages"]) < 2:
            raise DataError(f"{settings.rows}: row {number} does not end with an assistant turn, the reference answer")
        rows.append({**row, "id": f"{number}:{row.get('id') or ''}"})
        if len(rows) == settings.questions:
            break
    if not rows:
        raise DataError(f"{settings.rows}: no rows; give at least one with a question and its answer")
    return rows


def question_of(row: Mapping[str, Any], max_new_tokens: int) -> Question:
    """The question that a row asks; its last turn is the right answer, and so are the texts of `answers`, if any."""
    *asked, last = row["messages"]
    also = row.get("answers") or []
    if not isinstance(also, list) or not all(isinstance(text, str) and text.strip() for text in also):
        raise DataError(f"row {row['id']}: field `answers` must be a list of texts, the right answers")
    return Question(
        key=row["id"],
        messages=tuple(asked),
        expected=last["content"],
        kind=row.get("task") or "all",
        max_new_tokens=max_new_tokens,
        also_right=tuple(also),
    )


def normalise(text: str) -> str:
    """Text without case, width variants, spare white space and a final full stop."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(ENDINGS)


def shares(rows: Iterable[Row]) -> ShortTally:
    """Counts and shares of a group; failed questions are left out of the share and counted."""
    rows = list(rows)
    scored = [row["score"] for row in rows if row["score"] is not None]
    counts = tally([score["exact"] for score in scored], len(rows))
    return ShortTally(**vars(counts), contains_accuracy=mean_of(scored, "contains"))
