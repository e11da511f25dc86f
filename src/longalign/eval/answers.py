"""Asks every question once, keeps answers across a kill, and counts failures.

Answers are appended to `answers.jsonl` one by one and never requested again. Scores and `results.json` are computed
from the questions and that file alone, so an interrupted evaluation ends with the same results as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeVar

from longalign.base.files import append_jsonl, read_jsonl
from longalign.base.progress import Progress
from longalign.data.turn_spans import common_length
from longalign.errors import ModelError
from longalign.llm.base import ENDED_BY_MODEL, Failure, LanguageModel, Outcome, Reply, Request, has_answered

ANSWERS = "answers.jsonl"
VERDICTS = "verdicts.jsonl"
BEGINNING_CHARACTERS = 2048
N = TypeVar("N", int, float)
Ending = Literal[
    "whole",
    "cut",  # by the cap on new tokens; what is there is the answer
    "thinking_cut",  # the cap came before the answer: thoughts only
    "only_thinking",  # thoughts, and then no answer
    "empty",
    "failed",  # no answer, for a reason that is not the model's
]
NO_ANSWER: tuple[Ending, ...] = ("thinking_cut", "only_thinking", "empty")
"""The model's answer is no text at all."""
GROUPED_CHARACTERS_PER_TOKEN = 3  # cautious, only to group items; a local model divides groups further by its limit


@dataclass(frozen=True)
class Item:
    """One question put to the model under test."""

    key: str
    messages: tuple[Mapping[str, str], ...]
    max_new_tokens: int
    seed: int | None = None

    @property
    def characters(self) -> int:
        return sum(len(message["content"]) for message in self.messages)

    @property
    def beginning(self) -> str:
        """The first characters of a long prompt, which name its document; the key of a short one."""
        text = self.messages[0]["content"]
        return text[:BEGINNING_CHARACTERS] if len(text) >= BEGINNING_CHARACTERS else self.key

    @property
    def request(self) -> Request:
        """Greedy, so that a model has one answer."""
        return Request(messages=self.messages, max_new_tokens=self.max_new_tokens, seed=self.seed)


@dataclass(frozen=True)
class Answer:
    """A model's answer, or why there is none. A text cut by `max_new_tokens` is still its answer, and so is silence."""

    key: str
    text: str | None
    failure: str | None
    final: bool
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    model: str
    own_temperature: bool = False

    @property
    def ending(self) -> Ending:
        """How the answer came to its end."""
        if self.text is None:
            return "failed"
        if self.text.strip():
            return "cut" if self.finish_reason == "length" else "whole"
        if self.finish_reason == "length":
            return "thinking_cut"  # a server that hides thoughts gives no text either
        return "only_thinking" if self.finish_reason == "only_thinking" else "empty"

    @classmethod
    def of(cls, key: str, outcome: Outcome) -> Answer:
        text: str | None = outcome.text
        failure, final = None, True
        finish = outcome.finish_reason if isinstance(outcome, Reply) else str(outcome.kind)
        if isinstance(outcome, Failure):
            if outcome.kind in ("truncated", "thinking_truncated"):
                finish = "length"
            if outcome.kind not in ENDED_BY_MODEL:
                text, failure, final = None, f"{outcome.kind}: {outcome.message}", outcome.final
        return cls(
            key,
            text,
            failure,
            final,
            finish,
            outcome.prompt_tokens,
            outcome.completion_tokens,
            outcome.cost_usd,
            outcome.model,
            outcome.own_temperature,
        )


def ask(
    model: LanguageModel, items: Sequence[Item], log: Path, *, label: str, batch_tokens: int, unit: str = "question"
) -> dict[str, Answer]:
    """Answers by key. What `log` already holds is not asked again, except what failed for a passing reason."""
    done = {row["key"]: Answer(**row) for row in read_jsonl(log)}

    def open_(item: Item) -> bool:
        return item.key not in done or not done[item.key].final

    if any(item.key in done and done[item.key].text is not None for item in items):
        has_answered(model)
    groups = fixed_batches(items, batch_tokens) if model.batched else [[item for item in items if open_(item)]]
    with Progress(label, total=len(items), unit=unit, done=sum(not open_(item) for item in items)) as bar:
        for group in groups:
            if not any(open_(item) for item in group):
                continue
            for index, outcome in model.complete([item.request for item in group]):
                item = group[index]
                if isinstance(outcome, Reply):
                    has_answered(model)
                if open_(item):
                    done[item.key] = Answer.of(item.key, outcome)
                    append_jsonl(log, asdict(done[item.key]))
                    bar.advance()
    missing = [item.key for item in items if item.key not in done]
    if missing:
        raise ModelError(f"{model.name} gave no outcome for {len(missing)} of {len(items)} questions ({missing[0]})")
    return {item.key: done[item.key] for item in items}


def fixed_batches(items: Sequence[Item], batch_tokens: int) -> list[list[Item]]:
    """Items of like length together, the same groups whatever is answered already.

    Padding and batch size move the last bits of a logit, and now and then the choice of a token. A local batch
    that a kill cut short is therefore run again as a whole: the same batch gives the same answers. Questions about one
    document stay side by side, and a beginning that one shares with the question before it counts once.
    """
    place: dict[str, tuple[int, str]] = {}  # of a document among others: by its longest prompt, then by key
    for item in items:
        place[item.beginning] = min(place.get(item.beginning, (0, item.key)), (-item.characters, item.key))
    groups: list[list[Item]] = []
    characters = 0
    for item in sorted(items, key=lambda item: (place[item.beginning], -item.characters, item.key)):
        own = item.characters - (shared_characters(groups[-1][-1], item) if groups else 0)
        if not groups or characters + own > GROUPED_CHARACTERS_PER_TOKEN * batch_tokens:
            groups.append([])
            characters, own = 0, item.characters
        groups[-1].append(item)
        characters += own
    return groups


def shared_characters(a: Item, b: Item) -> int:
    """Characters that two prompts begin with in common; 0 where they are too few to be read together."""
    if a.beginning != b.beginning or len(a.beginning) < BEGINNING_CHARACTERS:
        return 0
    return common_length(a.messages[0]["content"], b.messages[0]["content"])


def passing_failures(answers: Mapping[str, Answer]) -> int:
    """Answers that failed for a reason that may pass (unavailable, over budget): the stage stays open for them."""
    return sum(not answer.final for answer in answers.values())


@dataclass(frozen=True)
class Spend:
    """Tokens and money of some calls; a sum is None where no call reported, and says how many did not."""

    calls: int
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None
    calls_without_token_counts: int


def spend(answers: Sequence[Answer]) -> Spend:
    """The cost of the answers."""
    return Spend(
        calls=len(answers),
        prompt_tokens=_sum([answer.prompt_tokens for answer in answers]),
        completion_tokens=_sum([answer.completion_tokens for answer in answers]),
        cost_usd=_sum([answer.cost_usd for answer in answers]),
        calls_without_token_counts=sum(answer.prompt_tokens is None for answer in answers),
    )


def _sum(values: Sequence[N | None]) -> N | None:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None
