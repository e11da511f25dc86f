"""A reply is complete only where that is known; everything else is a failure that names the setting that helps."""

from typing import Any

import pytest

from longalign.llm.base import Call, Failure, FailureKind, Outcome, Reply, Request
from longalign.llm.reply import Given, Habits, read_reply, reported_tokens
from tests.makers.text import prose

TEXT = "It was signed in 1648."


def request(text: str = "When?") -> Request:
    return Request(messages=({"role": "user", "content": text},), max_new_tokens=640)


def read(content: object = TEXT, finish: str | None = "stop", **given: Any) -> Outcome:
    habits = given.pop("habits", None)
    return read_reply(Given(content=content, finish_reason=finish, **given), request(), Call(), habits)


@pytest.mark.parametrize("finish", ["stop", "eos", "eos_token", "stop_sequence", "end_turn", "STOP", "COMPLETE"])
def test_known_good_finish_reasons_are_complete(finish: str) -> None:
    assert read(finish=finish) == Reply(text=TEXT)


@pytest.mark.parametrize(
    ("finish", "kind", "advice"),
    [
        ("length", "truncated", "--max_new_tokens"),
        ("max_tokens", "truncated", "--max_question_tokens"),
        ("model_length", "too_long", "context"),
        ("content_filter", "moderated", "filter"),
        ("SAFETY", "moderated", "filter"),
        ("abort", "incomplete", "broke the reply off (finish reason `abort`)"),
        ("error", "incomplete", "broke the reply off (finish reason `error`)"),
        (None, "incomplete", "--finish_reasons none"),
        ("", "incomplete", "--finish_reasons none"),
        ("tool_calls", "incomplete", "tool"),
    ],
)
def test_any_other_finish_reason_is_a_failure_with_its_text(finish: str | None, kind: FailureKind, advice: str) -> None:
    outcome = read(finish=finish)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.text, outcome.maybe_billed) == (kind, TEXT, True)
    assert advice in outcome.message


def test_a_person_can_vouch_for_an_endpoints_finish_reasons() -> None:
    assert read(finish=None, habits=Habits(complete=frozenset({"none"}))) == Reply(text=TEXT)
    assert isinstance(read(finish="abort", habits=Habits(complete=frozenset({"none"}))), Failure)


@pytest.mark.parametrize(
    ("content", "reasoning"),
    [
        (TEXT, "hm"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": TEXT}], None),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, {"text": TEXT}], None),
        ([{"type": "output_text", "text": TEXT}], [{"type": "reasoning.text", "text": "hm"}]),
        (f"<think>hm</think>{TEXT}", None),
    ],
)
def test_thoughts_are_kept_apart_wherever_they_come(content: object, reasoning: object) -> None:
    assert read(content, reasoning=reasoning) == Reply(text=TEXT, reasoning="hm")


@pytest.mark.parametrize(
    ("content", "finish", "reasoning", "kind", "advice"),
    [
        ("<think>hm", "length", None, "thinking_truncated", "--max_new_tokens"),
        (None, "length", "hm", "thinking_truncated", "--reasoning_effort low"),
        ("<think>hm</think>", "length", None, "thinking_truncated", "enable_thinking"),
        (None, "stop", "hm", "only_thinking", "enable_thinking"),
        ("<think>hm", "stop", None, "only_thinking", "reasoning parser"),
        ("<think>hm</think>\n\n", "stop", None, "only_thinking", "enable_thinking"),
    ],
)
def test_thoughts_without_an_answer_are_never_its_text(
    content: str | None, finish: str, reasoning: str | None, kind: FailureKind, advice: str
) -> None:
    outcome = read(content, finish, reasoning=reasoning)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.text, outcome.reasoning) == (kind, "", "hm")
    assert advice in outcome.message
    assert outcome.final


@pytest.mark.parametrize("content", [None, "", " \n", [], "<|im_end|>", "\x00"])
def test_silence_is_a_failure_of_its_own(content: object) -> None:
    outcome = read(content)
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.text) == ("empty", "")


def test_an_answer_that_goes_on_thinking_and_a_call_in_its_place_are_not_complete() -> None:
    for outcome in (read(f"{TEXT}\n<think>\nbut"), read(None, called=True)):
        assert isinstance(outcome, Failure)
        assert outcome.kind == "incomplete"
        assert not outcome.final


def test_what_was_cleaned_is_counted() -> None:
    assert read(f"\ufeff{TEXT}\x00\u202e") == Reply(text=TEXT, cleaned_characters=3)


@pytest.mark.parametrize(
    ("language", "tokens_per_character", "cut", "whole"), [("en", 0.25, 2051, 8500), ("zh", 0.7, 2051, 8000)]
)
def test_a_prompt_of_which_the_server_read_a_part_is_noticed(
    language: str, tokens_per_character: float, cut: int, whole: int
) -> None:
    text = prose(0, 900, language)[: int(11_000 / tokens_per_character)]
    given = Given(content=TEXT, finish_reason="stop")
    outcome = read_reply(given, request(text), Call(prompt_tokens=cut))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.final) == ("prompt_cut", False)
    assert "raise its context" in outcome.message
    for tokens in (whole, 11_000, 30_000, None):
        assert isinstance(read_reply(given, request(text), Call(prompt_tokens=tokens)), Reply)
    trusting = Habits(counts_prompts=False)
    assert isinstance(read_reply(given, request(text), Call(prompt_tokens=cut), trusting), Reply)
    assert isinstance(read_reply(given, request(text[:2000]), Call(prompt_tokens=20)), Reply)  # short ones: not judged


def test_a_usage_of_zeros_is_unknown() -> None:
    assert reported_tokens(0, 0) == (None, None)
    assert reported_tokens(None, None) == (None, None)
    assert reported_tokens(0, 7) == (None, 7)
    assert reported_tokens(5, 0) == (5, 0)
    assert reported_tokens(-1, "x") == (None, None)
