"""Extras of requests: what reaches the server, what the ledger remembers, and what a model refuses."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longalign.cli.options import settings
from longalign.config import DataSettings
from longalign.config.load import load_run, parse_overrides
from longalign.config.request import RequestSettings
from longalign.data.build import build
from longalign.data.source import read_rows
from longalign.errors import ConfigError
from longalign.llm.base import Failure, Outcome, Reply, Request, complete_all, innermost
from longalign.llm.ledger import request_key
from longalign.llm.open import open_model
from longalign.llm.openai import OpenAICompatibleModel
from tests.llm.chat_server import Answer, Behaviour, Body, ChatServer, stand_in
from tests.llm.messages_server import MessagesServer
from tests.makers.text import prose

EXTRAS = RequestSettings(
    system_prompt="Be brief.",
    top_p=0.9,
    reasoning_effort="low",
    chat_template_kwargs={"enable_thinking": False},
    extra_body={"min_p": 0.1, "chat_template_kwargs": {"mood": "calm"}},
)


def ask(text: str = "one two three", **options: Any) -> Request:
    return Request(messages=({"role": "user", "content": text},), **options)


def outcome_of(behaviour: Behaviour, *requests: Request, **options: Any) -> tuple[list[Outcome], ChatServer]:
    with ChatServer(behaviour) as server:
        model = OpenAICompatibleModel("m", server.url, first_pause_s=0.001, **options)
        return complete_all(model, requests or [ask()]), server


def test_extras_reach_the_server_and_are_part_of_what_is_remembered(tmp_path: Path) -> None:
    with ChatServer(lambda body, times: Answer("yes", message={"reasoning_content": "hm"})) as server:
        for _ in range(2):
            for extras in (EXTRAS, None, EXTRAS.model_copy(update={"top_p": 0.5})):
                model = open_model(server.spec, ledger=tmp_path / "ledger.sqlite", extras=extras)
                (outcome,) = complete_all(model, [ask(seed=1)])
                assert isinstance(outcome, Reply)
                assert (outcome.text, outcome.reasoning) == ("yes", "hm")  # thoughts are remembered, too
                model.close()  # type: ignore[attr-defined]
        asked, plain, other = server.bodies
    usual = {"model": server.model, "max_tokens": 1024, "temperature": 0.0, "seed": 1}
    user = {"role": "user", "content": "one two three"}
    assert plain == {**usual, "messages": [user]}
    assert asked == {
        **usual,
        "messages": [{"role": "system", "content": "Be brief."}, user],
        "top_p": 0.9,
        "reasoning_effort": "low",
        "min_p": 0.1,
        "chat_template_kwargs": {"enable_thinking": False, "mood": "calm"},
    }
    assert other == asked | {"top_p": 0.5}


def test_a_request_without_extras_has_the_key_that_it_always_had() -> None:
    """The literal is what the ledger of version 0.1 computed for this request."""
    request = ask("hello", temperature=0.5, seed=3, shared_prefix_characters=2)
    assert request_key("m", request) == "86cdbb2a329bffbca58dbed736d77299b72f9ee7e229abff6a89532f93c3d03f"


def test_extras_are_read_from_the_command_line_and_a_recipe(tmp_path: Path) -> None:
    words = """--extra_body '{"a": 1, "b": {"c": [2]}}' --chat_template_kwargs.enable_thinking false --top_p 0.9
        --finish_reasons none --reasoning_effort low --system_prompt 'Be brief.'"""
    context = SimpleNamespace(args=shlex.split(words))
    read = settings(DataSettings, context, {})  # type: ignore[arg-type]
    assert read.extra_body == {"a": 1, "b": {"c": [2]}}
    assert read.chat_template_kwargs == {"enable_thinking": False}
    assert (read.finish_reasons, read.reasoning_effort, read.top_p) == (("none",), "low", 0.9)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: x\ndata: {long: {documents: [b], chat_template_kwargs: {enable_thinking: true, mood: calm}}}\n"
    )
    run, sources = load_run(recipe, parse_overrides(["--data.long.chat_template_kwargs.enable_thinking", "false"]))
    assert run.data["long"].chat_template_kwargs == {"enable_thinking": False, "mood": "calm"}
    assert sources["data.long.chat_template_kwargs.mood"] == ("calm", str(recipe))


def test_a_system_prompt_is_a_text_or_the_text_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Answer as a lawyer.\n")
    assert RequestSettings(system_prompt=str(tmp_path / "system.txt")).system_prompt == "Answer as a lawyer."
    assert RequestSettings(system_prompt="Be brief.").system_prompt == "Be brief."
    with pytest.raises(ValueError, match=r"there is no file no/such\.txt"):
        RequestSettings(system_prompt="no/such.txt")


def test_anthropics_protocol_takes_what_it_has_a_place_for() -> None:
    extras = RequestSettings(system_prompt="Be brief.", top_p=0.9, extra_body={"thinking": {"type": "enabled"}})
    with MessagesServer(lambda body, times: Answer("yes")) as server:
        complete_all(open_model(server.spec, extras=extras), [ask()])
        for wrong in ({"reasoning_effort": "low"}, {"chat_template_kwargs": {"enable_thinking": False}}):
            with pytest.raises(ConfigError, match=r"no such field.*--extra_body"):
                open_model(server.spec, extras=RequestSettings(**wrong))
    (body,) = server.bodies
    assert (body["system"], body["top_p"], body["thinking"]) == ("Be brief.", 0.9, {"type": "enabled"})


def test_the_offline_stand_in_passes_over_extras_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    model = open_model("offline", extras=EXTRAS)
    assert "passes over the extras" in capsys.readouterr().err
    assert innermost(model).name == model.name
    open_model("offline", extras=RequestSettings(system_prompt="Be brief."))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status", "sent"),
    [
        ({"message": "`temperature` is deprecated for this model.", "type": "invalid_request_error"}, 400, {}),
        ({"message": "invalid temperature: only 1 is allowed for this model"}, 400, {}),
        ({"message": "Unsupported value", "param": "temperature", "code": "unsupported_value"}, 400, {}),
        ({"message": "temperature may only be set to 1 when thinking is enabled"}, 400, {}),
        (
            {"message": "`temperature` must be strictly positive", "error_type": "validation"},
            422,
            {"temperature": 0.01},
        ),
    ],
)
def test_a_refused_temperature_is_understood_in_any_words_and_said_once(
    error: Body, status: int, sent: Body, capsys: pytest.CaptureFixture[str]
) -> None:
    def picky(body: Body, times: int) -> Answer:
        refused = body.get("temperature") == 0
        return Answer(status=status, error=error, delay_s=0.05) if refused else Answer("fine")

    outcomes, server = outcome_of(picky, ask("one"), ask("two"), concurrency=2)
    assert [outcome.text for outcome in outcomes] == ["fine", "fine"]
    assert {key: value for key, value in server.bodies[-1].items() if key == "temperature"} == sent
    assert outcomes[-1].own_temperature is not bool(sent)
    assert capsys.readouterr().err.count("note: m at") == 1


def test_a_seed_refused_by_validation_is_left_out_and_words_of_the_prompt_refuse_nothing() -> None:
    def strict(body: Body, times: int) -> Answer:
        told = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}
        detail = [{**told, "input": "the temperature is not supported by this thermometer"}]
        return Answer(status=422, error={"detail": detail}) if "seed" in body else Answer("fine")

    def unwrapped(body: Body, times: int) -> Answer:
        reply = strict(body, times)
        return reply if reply.status == 200 else Answer(status=422, raw=json.dumps(reply.error).encode())

    outcomes, server = outcome_of(unwrapped, ask(seed=7))
    assert [outcome.text for outcome in outcomes] == ["fine"]
    assert "temperature" in server.bodies[-1]


def test_what_a_person_set_is_not_left_out_when_it_is_refused() -> None:
    error = {"message": "Unsupported parameter: 'top_p' is not supported with this model."}
    (outcome,), server = outcome_of(lambda body, times: Answer(status=400, error=error), ask(top_p=0.5))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, len(server.bodies)) == ("rejected", 1)
    assert "top_p" in outcome.message


REPLIES = {
    "parts": (
        Answer(message={"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}]}),
        "yes",
    ),
    "only a closing mark": (Answer("Okay, the user\n</think>\n\nyes"), "yes"),
    "a control token": (Answer("yes<|im_end|>"), "yes"),
    "controls": (Answer("\ufeffy\x00es\u202e"), "yes"),
    "null, and thoughts beside it": (Answer(message={"content": None, "reasoning_content": "hm"}), "only_thinking"),
    "null, and thoughts cut": (
        Answer(message={"content": None, "reasoning": "hm"}, finish_reason="length"),
        "thinking_truncated",
    ),
    "never closed": (Answer("<think>\nOkay, let me see."), "only_thinking"),
    "nothing": (Answer(""), "empty"),
    "no reason": (Answer("ye", finish_reason=None), "incomplete"),
    "aborted": (Answer("ye", finish_reason="abort"), "incomplete"),
    "a call": (Answer(message={"content": None, "tool_calls": [{"id": "a", "function": {}}]}), "incomplete"),
    "cut by another name": (Answer("ye", finish_reason="max_tokens"), "truncated"),
    "a full window": (Answer("ye", finish_reason="model_length"), "too_long"),
    "zeros": (Answer("yes", counts=(0, 0)), "yes"),
}


def test_an_endpoints_habits_are_read_over_http() -> None:
    def habit(body: Body, times: int) -> Answer:
        return REPLIES[body["messages"][0]["content"]][0]

    outcomes, _ = outcome_of(habit, *map(ask, REPLIES))
    found = {
        name: outcome.kind if isinstance(outcome, Failure) else outcome.text
        for name, outcome in zip(REPLIES, outcomes, strict=True)
    }
    assert found == {name: expected for name, (_, expected) in REPLIES.items()}
    by_name = dict(zip(REPLIES, outcomes, strict=True))
    assert (by_name["zeros"].prompt_tokens, by_name["zeros"].completion_tokens) == (None, None)
    assert by_name["controls"].cleaned_characters == 3


@pytest.mark.parametrize("keep", [False, True])
def test_rows_of_a_thinking_model_hold_its_thoughts_only_as_a_field_of_their_own(tmp_path: Path, keep: bool) -> None:
    def thinking(body: Body, times: int) -> Answer:
        return Answer(f"Let me THINK about it.\n</think>\n\n{stand_in(body, times).text}<|im_end|>")

    (tmp_path / "texts").mkdir()
    for number in range(4):
        (tmp_path / "texts" / f"{number}.txt").write_text(prose(number, 40))
    with ChatServer(thinking) as server:
        chosen = DataSettings(
            documents=(str(tmp_path / "texts"),), llm=server.spec, rows=3, turns=2, tasks=("general",),
            min_length_tokens=50, max_length_tokens=8192, keep_reasoning=keep, max_question_tokens=777,
        )  # fmt: skip
        build(chosen, tmp_path / "rows.jsonl")
        bodies = server.bodies
    rows = list(read_rows(tmp_path / "rows.jsonl"))
    assert len(rows) == 3
    for row in rows:
        answers = [message for message in row["messages"] if message["role"] == "assistant"]
        assert len(answers) == 2
        assert {message.pop("reasoning_content", None) for message in answers} == {
            "Let me THINK about it." if keep else None
        }
        assert not any(word in str(row) for word in ("THINK", "think>", "im_end"))
    assert {body["max_tokens"] for body in bodies} == {777, 2048}
    assert "THINK" not in str(bodies)  # no model is sent its earlier thoughts
