"""The judge named in the settings: opening it, rating answers with it, its verdicts on disk, and their cost.

What it is asked, and how its verdicts are read, is in rating.py (our wording) and fastchat.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longalign.config import ChatSettings
from longalign.config.request import RequestSettings
from longalign.eval.answers import NO_ANSWER, Answer, Item, Spend, ask, spend
from longalign.eval.cases import Case
from longalign.eval.conversation import turns_before
from longalign.eval.fastchat import FastChatWording
from longalign.eval.rating import OwnWording, Rated, Wording
from longalign.llm.base import LanguageModel, close_model
from longalign.llm.open import check_model, is_endpoint, open_model

BATCH_TOKENS = 16384  # of a local judge
AGAIN = "+"
"""Ends the key of a verdict that was asked for once more."""


@dataclass(frozen=True)
class Reading:
    """What one scoring of an answer came to; `rating` is None unless the verdict could be read."""

    rating: float | None
    state: Literal["read", "unreadable", "cut", "failed"]
    asked_again: bool = False


@dataclass(frozen=True)
class Judge:
    """A model that rates, and how it is asked."""

    model: LanguageModel
    wording: Wording
    scorings: int
    max_new_tokens: int

    def verdicts(self, rated: Sequence[Rated], log: Path, *, label: str = "verdicts") -> dict[str, Answer]:
        """Verdicts by `case#scoring`, and by `case#scoring+` those that were asked for again."""
        found = self._ask([(one, scoring) for one in rated for scoring in range(self.scorings)], log, label)
        if not self.wording.asks_again:
            return found
        unreadable = [
            (one, scoring)
            for one in rated
            for scoring, reading in enumerate(self.readings(one, found))
            if reading.state == "unreadable"
        ]
        return found | self._ask(unreadable, log, f"{label} again", again=True)

    def readings(self, rated: Rated, verdicts: Mapping[str, Answer]) -> list[Reading]:
        """How each scoring of an answer ended."""
        return [self._reading(rated, f"{rated.case.key}#{scoring}", verdicts) for scoring in range(self.scorings)]

    def _reading(self, rated: Rated, key: str, verdicts: Mapping[str, Answer]) -> Reading:
        second = verdicts.get(key + AGAIN)
        verdict = second or verdicts.get(key)
        if verdict is None or verdict.text is None:
            return Reading(None, "failed", second is not None)
        if verdict.ending in ("cut", "thinking_cut"):
            return Reading(None, "cut", second is not None)
        rating = self.wording.read(verdict.text, rated)
        return Reading(rating, "unreadable" if rating is None else "read", second is not None)

    def _ask(
        self, wanted: Sequence[tuple[Rated, int]], log: Path, label: str, *, again: bool = False
    ) -> dict[str, Answer]:
        items = [
            Item(
                f"{one.case.key}#{scoring}{AGAIN if again else ''}",
                self.wording.messages(one, scoring, again=again),
                self.max_new_tokens,
                seed=scoring,
            )
            for one, scoring in wanted
        ]
        return ask(self.model, items, log, label=label, batch_tokens=BATCH_TOKENS, unit="verdict") if items else {}


def check_judge(settings: ChatSettings) -> None:
    """Raise what `open_judge` would, before any question is asked: a prompt without slots, no key, no such model."""
    wording_of(settings)
    check_model(settings.judge)


@contextmanager
def open_judge(settings: ChatSettings, out: Path) -> Iterator[Judge]:
    """The judge of `settings`; paid verdicts are remembered in `out/judge-ledger.sqlite`."""
    wording = wording_of(settings)
    model = open_model(
        "offline-judge" if settings.judge == "offline" else settings.judge,
        ledger=out / "judge-ledger.sqlite" if is_endpoint(settings.judge) else None,
        concurrency=settings.judge_concurrency,
        price_usd_per_million=settings.judge_price_usd_per_million,
        max_cost_usd=settings.judge_max_cost_usd,
        extras=RequestSettings(
            reasoning_effort=settings.judge_reasoning_effort,
            chat_template_kwargs=settings.judge_chat_template_kwargs,
            extra_body=settings.judge_extra_body,
            finish_reasons=settings.judge_finish_reasons,
        ),
    )
    try:
        yield Judge(model, wording, settings.scorings, max(settings.judge_max_new_tokens, wording.least_new_tokens))
    finally:
        close_model(model)


def wording_of(settings: ChatSettings) -> Wording:
    """How the judge of `settings` is asked. Raises for a prompt that cannot be used."""
    return FastChatWording(settings) if settings.protocol == "fastchat" else OwnWording(settings)


def rated_answers(judge: Judge, cases: Sequence[Case], answers: Mapping[str, Answer]) -> list[Rated]:
    """What the judge gets: answers with a text. One without gets the lowest rating, and none is paid for."""
    by_key = {case.key: case for case in cases}
    return [
        Rated(case, text, turns_before(case, by_key, answers))
        for case in cases
        if (text := answers[case.key].text) is not None
        and (judge.wording.judges_silence or answers[case.key].ending not in NO_ANSWER)
    ]


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """What a score depends on besides the answer (judge, protocol, wording, examples), and its cost.

    `temperature` is None where an endpoint takes none but its own. Of the `verdicts`, one for each scoring:
    `unreadable` say no rating, also when they were asked for again (`asked_again`); `cut` reached the cap; `failed` did
    not come.
    """

    model: str
    reported_models: list[str]
    protocol: str
    prompt_hash: dict[str, str]
    scorings: int
    temperature: float | None
    verdicts: int
    unreadable: int
    cut: int
    failed: int
    asked_again: int
    spend: Spend


def describe_judge(judge: Judge, protocol: str, rated: Sequence[Rated], verdicts: Mapping[str, Answer]) -> JudgeFacts:
    """The judge and its verdicts, for results."""
    readings = [reading for one in rated for reading in judge.readings(one, verdicts)]
    states = [reading.state for reading in readings]
    replies = list(verdicts.values())
    return JudgeFacts(
        model=judge.model.name,
        reported_models=sorted({verdict.model for verdict in replies if verdict.model}),
        protocol=protocol,
        prompt_hash={name: judge.wording.prompt_hash(name) for name in sorted({one.case.rubric for one in rated})},
        scorings=judge.scorings,
        temperature=None if any(verdict.own_temperature for verdict in replies) else 0.0,
        verdicts=len(readings),
        unreadable=states.count("unreadable"),
        cut=states.count("cut"),
        failed=states.count("failed"),
        asked_again=sum(reading.asked_again for reading in readings),
        spend=spend(replies),
    )


def verdict_lines(judge: Mapping[str, Any]) -> list[str]:
    """What a person should know of the verdicts: how many could not be used, and the setting that helps."""
    parts = []
    if again := judge.get("asked_again"):
        parts.append(f"{again} were unreadable and asked for again")
    if judge["unreadable"]:
        parts.append(f"{judge['unreadable']} unreadable")
    if judge.get("cut"):
        parts.append(f"{judge['cut']} cut at the cap (raise --judge_max_new_tokens)")
    if judge["failed"]:
        parts.append(f"{judge['failed']} failed (the reasons are in verdicts.jsonl)")
    return [f"note: of {judge['verdicts']} verdicts {', '.join(parts)}"] if parts else []
