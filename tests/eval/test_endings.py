"""Answers that are cut, empty or only thoughts are scored, counted and shown with the setting that helps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longalign.base.files import read_jsonl
from longalign.config import ChatSettings, EvalSettings, NeedleSettings, ShortSettings
from longalign.errors import LongAlignError
from longalign.eval.answers import Answer as Given
from longalign.eval.evaluate import evaluate
from tests.cli.test_verbs import longalign
from tests.eval.test_judged import cases_file
from tests.eval.test_needle import say_the_right_entry
from tests.llm.chat_server import Answer, Body, ChatServer

THOUGHTS = "<think>\nWhat could it be?"


def thinking_cut(body: Body, times: int) -> Answer:
    """Thinks for 100 tokens, and then knows."""
    enough = body["max_tokens"] >= 100
    said = f"{THOUGHTS}\n</think>\n\n{say_the_right_entry(body)}" if enough else THOUGHTS
    return Answer(said, finish_reason="stop" if enough else "length")


def hidden(body: Body, times: int) -> Answer:
    return Answer(message={"content": None, "reasoning_content": "Hm."}, finish_reason="length")


KINDS: dict[str, tuple[Callable[[Body, int], Answer], str, str]] = {
    "a thought that the cap cut": (thinking_cut, "thinking_cut", "raise --thinking_tokens"),
    "a thought that the server hides": (hidden, "thinking_cut", "raise --thinking_tokens"),
    "a thought and no answer": (
        lambda body, times: Answer(message={"content": None, "reasoning_content": "Hm."}),
        "only_thinking",
        "enable_thinking",
    ),
    "no content": (lambda body, times: Answer(message={"content": None}), "empty", "--system_prompt"),
    "white space": (lambda body, times: Answer("  \n"), "empty", "--system_prompt"),
    "an answer that the cap cut": (
        lambda body, times: Answer("Register entry", finish_reason="length"),
        "cut",
        "raise --max_new_tokens",
    ),
}


def needles(model: str, documents: Path, **changes: Any) -> EvalSettings:
    part = NeedleSettings(form="register", lengths=(512,), depths=3, haystack=(str(documents),))
    return EvalSettings(model=model, needle=part, **changes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_without_a_whole_text_is_wrong_and_counted(kind: str, documents: Path, tmp_path: Path) -> None:
    behaviour, ending, help_ = KINDS[kind]
    with ChatServer(behaviour) as server:
        got = evaluate(needles(server.spec, documents), tmp_path)
    assert (got["overall"]["failed"], got["overall"]["accuracy"]) == (0, 0)
    assert got["endings"] == dict.fromkeys(got["endings"], 0) | {ending: 3}
    assert "note: 3 of 3 answers are" in got["text"]
    assert help_ in got["text"]
    assert {row["finish"] for row in read_jsonl(tmp_path / "scores.jsonl")} == {ending}


def test_room_for_thoughts_comes_on_top_of_the_cap(documents: Path, tmp_path: Path) -> None:
    with ChatServer(thinking_cut) as server:
        got = evaluate(needles(server.spec, documents, thinking_tokens=100), tmp_path)
        assert {body["max_tokens"] for body in server.bodies} == {132}
    assert got["overall"]["accuracy"] == 1
    assert got["endings"]["whole"] == 3
    assert "note: 3 of 3" not in got["text"]


def test_an_endpoints_answer_after_a_lone_closing_mark_is_read(documents: Path, tmp_path: Path) -> None:
    def tail(body: Body, times: int) -> Answer:
        return Answer(f"Register entry: other things.\n</think>\n\n{say_the_right_entry(body)}")

    with ChatServer(tail) as server:
        assert evaluate(needles(server.spec, documents), tmp_path)["overall"]["accuracy"] == 1


def test_old_logs_say_how_their_answers_ended() -> None:
    row = {"key": "k", "failure": None, "final": True, "prompt_tokens": 1, "completion_tokens": 1, "cost_usd": None}
    ends = [
        Given(text=text, finish_reason=finish, model="m", **row).ending
        for text, finish in (("x", "stop"), ("x", "length"), ("", "length"), ("", "only_thinking"), ("", "empty"))
    ]
    assert ends == ["whole", "cut", "thinking_cut", "only_thinking", "empty"]


@pytest.mark.slow
def test_extras_go_with_every_request_from_the_command_line(documents: Path, tmp_path: Path) -> None:
    with ChatServer(thinking_cut) as server:
        got = longalign(
            "eval", "needle", "--model", server.spec, "--lengths", "512", "--depths", "2", "--haystack", str(documents),
            "--out", str(tmp_path / "out"), "--json", "--thinking_tokens", "100", "--system_prompt", "Be brief.",
            "--top_p", "0.9", "--reasoning_effort", "low", "--chat_template_kwargs", '{"enable_thinking": false}',
            "--extra_body.mine", "7", "--form", "register",
        )  # fmt: skip
        assert got.returncode == 0, got.stderr
        bodies = list(server.bodies)
    for body in bodies:
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (body["top_p"], body["reasoning_effort"], body["mine"]) == (0.9, "low", 7)
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert len(bodies) == 2
    assert json.loads(got.stdout)["overall"]["accuracy"] == 1


def test_a_system_prompt_counts_towards_a_prompts_length(documents: Path, tmp_path: Path, tokenizers: Any) -> None:
    tokenizer = tokenizers("bytes")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    system = "Answer in one line. " * 20
    with ChatServer(thinking_cut) as server:
        settings = needles(server.spec, documents, tokenizer=str(tmp_path / "tokenizer"), system_prompt=system)
        evaluate(settings, tmp_path / "out")
        for body in server.bodies:
            ids = tokenizer.apply_chat_template(body["messages"], tokenize=True, add_generation_prompt=True)
            length = len(ids if isinstance(ids, list) else ids["input_ids"])
            assert 500 <= length <= 512


def test_a_finish_reason_of_the_servers_own_can_be_named(tmp_path: Path) -> None:
    with ChatServer(lambda body, times: Answer("amber", finish_reason="fin")) as server:
        short = ShortSettings(questions=7)
        got = evaluate(EvalSettings(model=server.spec, short=short), tmp_path / "a")
        assert got["overall"]["failed"] == 7
        assert list(got["failures"].values()) == [7]
        assert "note: no answer, 7 of 7: incomplete: finish reason `fin`" in got["text"]
        assert "--finish_reasons fin" in got["text"]
        named = EvalSettings(model=server.spec, short=short, finish_reasons=("fin",))
        assert evaluate(named, tmp_path / "b")["overall"]["failed"] == 0


def test_an_extra_that_a_local_model_cannot_honour_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    settings = EvalSettings(model=str(tiny_model), short=ShortSettings(questions=7), extra_body={"a": 1})
    with pytest.raises(LongAlignError, match="extra_body"):
        evaluate(settings, tmp_path)


def test_silence_gets_the_lowest_rating_and_no_judge(tmp_path: Path) -> None:
    def model(body: Body, times: int) -> Answer:
        number = int(body["messages"][-1]["content"].rsplit("What about ", 1)[1].rstrip("?"))
        return hidden(body, times) if number % 2 else Answer("good")

    with ChatServer(model) as answering, ChatServer(lambda body, times: Answer("[[9]]")) as judging:
        part = ChatSettings(cases=(str(cases_file(tmp_path)),), judge=judging.spec)
        got = evaluate(EvalSettings(model=answering.spec, longbench_chat=part), tmp_path / "out")
        assert len(judging.bodies) == 3 * 2
    assert got["overall"]["mean"] == pytest.approx((3 * 1 + 3 * 9) / 6)
    assert (got["overall"]["scored"], got["overall"]["unscored"], got["judge"]["verdicts"]) == (6, 0, 6)
    assert got["endings"]["thinking_cut"] == 3
    assert "3 of 6 answers are only thoughts" in got["text"]


@pytest.mark.slow  # pauses between attempts
def test_prompts_that_always_fail_cost_no_other_its_score_also_when_run_again(documents: Path, tmp_path: Path) -> None:
    def some_fail(body: Body, times: int) -> Answer:
        right = say_the_right_entry(body)
        return Answer(status=500) if sum(map(ord, right)) % 5 < 2 else Answer(right)

    part = NeedleSettings(form="register", lengths=(512,), depths=10, needles=5, haystack=(str(documents),))
    with ChatServer(some_fail) as server:
        settings = EvalSettings(model=server.spec, needle=part)
        first = evaluate(settings, tmp_path)
        failing = first["overall"]["failed"]
        assert failing > 12, "enough to be taken for an endpoint that is down"
        paid = sum(server.served.values())
        again = evaluate(settings, tmp_path)
        assert sum(server.served.values()) == paid == 50 - failing
    for got in (first, again):
        assert (got["overall"]["scored"], got["overall"]["accuracy"]) == (50 - failing, 1)
        assert f"note: no answer, {failing} of 50: unavailable: HTTP 500" in got["text"]


@pytest.mark.parametrize("distractors", [60, 200])
def test_a_haystack_may_hold_many_distractors(distractors: int, documents: Path, tmp_path: Path) -> None:
    part = NeedleSettings(
        form="register", lengths=(12_000,), depths=2, distractors=distractors, haystack=(str(documents),)
    )
    with ChatServer(lambda body, times: Answer(say_the_right_entry(body))) as server:
        got = evaluate(EvalSettings(model=server.spec, needle=part), tmp_path)
        assert {body["messages"][0]["content"].count("Register entry") for body in server.bodies} == {distractors + 1}
    assert got["overall"]["accuracy"] == 1


def test_content_in_parts_is_an_answer(documents: Path, tmp_path: Path) -> None:
    def parts(body: Body, times: int) -> Answer:
        return Answer(message={"content": [{"type": "text", "text": say_the_right_entry(body)}]})

    with ChatServer(parts) as server:
        assert evaluate(needles(server.spec, documents), tmp_path)["overall"]["accuracy"] == 1
