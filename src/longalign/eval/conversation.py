"""Conversations of several turns: each question is asked with the model's own earlier answers in context (MT-Bench)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from longalign.eval.answers import Answer, Item
from longalign.eval.cases import Case
from longalign.eval.subject import Subject
from longalign.llm.base import Message

Fit = Callable[[str, Sequence[Message]], tuple[str, int] | None]
"""(prompt, messages before it) -> the prompt as the window allows it, and the tokens cut from it; None: no room."""


def ask_in_turns(
    subject: Subject, cases: Sequence[Case], log: Path, *, fit: Fit, max_new_tokens: int
) -> tuple[dict[str, Answer], dict[str, int]]:
    """Answers and cut tokens by case: all first turns, then all second ones, and so on.

    A turn after one without an answer, or without room in the window, is not asked; its failure says so.
    """
    asked: dict[str, tuple[Message, ...]] = {}
    answers: dict[str, Answer] = {}
    cut_tokens = dict.fromkeys((case.key for case in cases), 0)
    waiting = list(cases)
    while waiting:
        items = []
        for case in waiting:
            if case.follows is not None and case.follows not in answers:
                continue
            before = _before(case, asked, answers)
            if before is None:
                previous = answers[str(case.follows)]
                why = f"the turn before has no answer ({previous.failure})"
                answers[case.key] = _not_asked(case.key, previous, why, final=previous.final)
                continue
            fitted = fit(case.prompt, before)
            if fitted is None:
                why = "the conversation so far fills the window"
                answers[case.key] = _not_asked(case.key, answers[str(case.follows)], why, final=True)
                continue
            prompt, cut_tokens[case.key] = fitted
            asked[case.key] = (*before, {"role": "user", "content": prompt})
            items.append(Item(case.key, asked[case.key], max_new_tokens))
        if items:
            answers |= subject.ask(items, log, "answers")
        waiting = [case for case in waiting if case.key not in answers]
    return answers, cut_tokens


def turns_before(case: Case, by_key: Mapping[str, Case], answers: Mapping[str, Answer]) -> tuple[tuple[Case, str], ...]:
    """The earlier turns of a case's conversation, each with the model's answer."""
    if case.follows is None:
        return ()
    previous = by_key[case.follows]
    return (*turns_before(previous, by_key, answers), (previous, str(answers[previous.key].text)))


def transcript(case: Case, before: Sequence[tuple[Case, str]]) -> str:
    """The conversation up to this question as a judge reads it; a lone question stays as it is."""
    if not before:
        return case.query
    earlier = [f"Person: {turn.query}\n\nAssistant: {said}" for turn, said in before]
    return "\n\n".join([*earlier, f"Person: {case.query}"])


def _before(
    case: Case, asked: Mapping[str, tuple[Message, ...]], answers: Mapping[str, Answer]
) -> tuple[Message, ...] | None:
    """The messages before this turn; None if the previous turn has no answer."""
    if case.follows is None:
        return ()
    said = answers[case.follows].text
    return None if said is None else (*asked[case.follows], {"role": "assistant", "content": said})


def _not_asked(key: str, previous: Answer, why: str, *, final: bool) -> Answer:
    return Answer(key, None, f"not asked: {why}", final, "not_asked", None, None, None, previous.model)
