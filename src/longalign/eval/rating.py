"""One answer to be rated, and how a judge is asked about it: in our words (`OwnWording`) or others' (fastchat.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from longalign.config import ChatSettings
from longalign.eval.cases import Case
from longalign.eval.conversation import transcript
from longalign.eval.judge_prompt import SCALES, Rubric, RubricName, judge_prompt, rubric, shuffled
from longalign.eval.verdict import read_rating
from longalign.llm.base import Message

REMINDER = {
    "en": "Reply with nothing but the rating: one whole number from {low} to {high} in double brackets, as [[{low}]].",
    "zh": "只回复评分：{low}到{high}之间的一个整数，放在双方括号中，例如[[{low}]]。",
}
"""What a judge is told in addition when its verdict could not be read."""


@dataclass(frozen=True)
class Rated:
    """A case with a model's answer; `before`: the earlier turns of its conversation and the answers to them."""

    case: Case
    answer: str
    before: tuple[tuple[Case, str], ...] = ()


class Wording(Protocol):
    """How a judge is asked, and how its verdicts are read."""

    rubrics: Mapping[RubricName, Rubric]
    least_new_tokens: int
    """A cap on verdicts under which they are not as published."""
    judges_silence: bool
    """Whether the judge also gets answers of no text; otherwise they get the lowest rating."""
    asks_again: bool
    """Whether an unreadable verdict is asked for once more."""

    def messages(self, rated: Rated, scoring: int, *, again: bool = False) -> tuple[Message, ...]:
        """The judge's prompt for one scoring; `again`: after a verdict that could not be read."""
        ...

    def read(self, verdict: str, rated: Rated) -> float | None:
        """The rating in a verdict; None where it cannot be read."""
        ...

    def prompt_hash(self, rubric: RubricName) -> str:
        """Names the wording; scores by different wordings are not comparable."""
        ...


class OwnWording:
    """The prompts of this package (prompts/judge_*.md), or one file of the user's."""

    least_new_tokens = 0
    judges_silence = False
    asks_again = True

    def __init__(self, settings: ChatSettings) -> None:
        template = Path(settings.judge_prompt) if settings.judge_prompt else None
        self.rubrics: Mapping[RubricName, Rubric] = {name: rubric(name, template) for name in SCALES}
        self.seed = settings.seed

    def messages(self, rated: Rated, scoring: int, *, again: bool = False) -> tuple[Message, ...]:
        """See `Wording`; the examples in an order of their own for each scoring."""
        case = rated.case
        examples = shuffled(case.examples, self.seed, case.key, scoring)
        question = transcript(case, rated.before)
        prompt = judge_prompt(self.rubrics[case.rubric], question, case.reference, rated.answer, examples)
        if again:
            low, high = SCALES[case.rubric]
            prompt += "\n\n" + REMINDER["zh" if case.language == "zh" else "en"].format(low=low, high=high)
        return ({"role": "user", "content": prompt},)

    def read(self, verdict: str, rated: Rated) -> float | None:
        """See `Wording`: the judge's last rating outside quotation (verdict.py)."""
        return read_rating(verdict, SCALES[rated.case.rubric], rated.answer)

    def prompt_hash(self, rubric: RubricName) -> str:
        """See `Wording`."""
        return self.rubrics[rubric].prompt_hash
