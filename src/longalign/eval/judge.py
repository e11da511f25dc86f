"""The judge named in the settings: opening it, rating answers with it, its verdicts on disk, and their cost.

The prompt is filled in, and the verdict read, in rubric.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.config import ChatSettings
from longalign.eval.answers import Answer, Item, Spend, ask, spend
from longalign.eval.cases import Case
from longalign.eval.conversation import transcript
from longalign.eval.judge_prompt import SCALES, Rubric, RubricName, judge_prompt, read_verdict, rubric, shuffled
from longalign.llm.base import LanguageModel, close_model
from longalign.llm.open import check_model, is_endpoint, open_model

BATCH_TOKENS = 16384  # of a local judge


@dataclass(frozen=True)
class Judge:
    """A model that rates, and the prompts it is given."""

    model: LanguageModel
    rubrics: Mapping[RubricName, Rubric]
    scorings: int
    max_new_tokens: int
    seed: int

    def items(self, case: Case, answer: str, question: str | None = None) -> list[Item]:
        """The judge's questions about one answer, one for each scoring; keys are `key#scoring`.

        `question` stands in for the case's own, where a conversation came before it.
        """
        items = []
        for scoring in range(self.scorings):
            examples = shuffled(case.examples, self.seed, case.key, scoring)
            prompt = judge_prompt(self.rubrics[case.rubric], question or case.query, case.reference, answer, examples)
            message = {"role": "user", "content": prompt}
            items.append(Item(f"{case.key}#{scoring}", (message,), self.max_new_tokens, seed=scoring))
        return items

    def ratings(self, rubric: RubricName, key: str, verdicts: Mapping[str, Answer]) -> list[int | None]:
        """The ratings of `key`, one for each scoring; None for a verdict that failed, was cut or is unreadable."""
        ratings: list[int | None] = []
        for scoring in range(self.scorings):
            verdict = verdicts.get(f"{key}#{scoring}")
            whole = verdict is not None and verdict.finish_reason != "length"
            text = verdict.text if verdict and whole else None
            ratings.append(None if text is None else read_verdict(text, self.rubrics[rubric]))
        return ratings


def check_judge(settings: ChatSettings) -> None:
    """Raise what `open_judge` would, before any question is asked: a prompt without slots, no key, no such model."""
    _rubrics(settings)
    check_model(settings.judge)


@contextmanager
def open_judge(settings: ChatSettings, out: Path) -> Iterator[Judge]:
    """The judge of `settings`; paid verdicts are remembered in `out/judge-ledger.sqlite`."""
    rubrics = _rubrics(settings)
    model = open_model(
        "offline-judge" if settings.judge == "offline" else settings.judge,
        ledger=out / "judge-ledger.sqlite" if is_endpoint(settings.judge) else None,
        concurrency=settings.judge_concurrency,
        price_usd_per_million=settings.judge_price_usd_per_million,
        max_cost_usd=settings.judge_max_cost_usd,
    )
    try:
        yield Judge(model, rubrics, settings.scorings, settings.judge_max_new_tokens, settings.seed)
    finally:
        close_model(model)


def _rubrics(settings: ChatSettings) -> dict[RubricName, Rubric]:
    template = Path(settings.judge_prompt) if settings.judge_prompt else None
    return {name: rubric(name, template) for name in SCALES}


def judge_answers(judge: Judge, cases: Sequence[Case], answers: Mapping[str, Answer], log: Path) -> dict[str, Answer]:
    """Verdicts by `case#scoring`; cases without an answer are not judged."""
    by_key = {case.key: case for case in cases}
    items = []
    for case in cases:
        text = answers[case.key].text
        if text is not None:
            items += judge.items(case, text, transcript(case, by_key, answers))
    return ask(judge.model, items, log, label="verdicts", batch_tokens=BATCH_TOKENS, unit="verdict")


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """What a score depends on besides the answer (judge, wording, examples), and its cost.

    `temperature` is None where an endpoint takes none but its own. `unreadable` counts verdicts with a text that says
    no rating, `failed` those without a text.
    """

    model: str
    reported_models: list[str]
    prompt_hash: dict[str, str]
    scorings: int
    temperature: float | None
    verdicts: int
    unreadable: int
    failed: int
    spend: Spend


def describe_judge(judge: Judge, verdicts: Sequence[Answer], scores: Sequence[dict[str, Any]]) -> JudgeFacts:
    """The judge and its verdicts, for results."""
    used = sorted({row["rubric"] for row in scores})
    ratings = [rating for row in scores if row["answer"] is not None for rating in row["ratings"]]
    return JudgeFacts(
        model=judge.model.name,
        reported_models=sorted({verdict.model for verdict in verdicts if verdict.model}),
        prompt_hash={name: judge.rubrics[name].prompt_hash for name in used},
        scorings=judge.scorings,
        temperature=None if any(verdict.own_temperature for verdict in verdicts) else 0.0,
        verdicts=len(ratings),
        unreadable=sum(rating is None for rating in ratings) - sum(v.text is None for v in verdicts),
        failed=sum(verdict.text is None for verdict in verdicts),
        spend=spend(verdicts),
    )
