"""Endpoints: what is retried, what is not, and what a person is told."""

import time
from pathlib import Path

import pytest

from longalign.errors import ConfigError, EndpointError
from longalign.llm.base import Failure, Outcome, Reply, Request, complete_all
from longalign.llm.breaker import Breaker, retry_after_s
from longalign.llm.open import open_model
from longalign.llm.openai import OpenAICompatibleModel, parse_endpoint
from tests.llm.chat_server import Answer, Behaviour, Body, ChatServer

KEY = "sk-very-secret-key-0123456789"


def ask(text: str, **options: object) -> Request:
    return Request(messages=({"role": "user", "content": text},), **options)  # type: ignore[arg-type]


def outcome_of(behaviour: Behaviour, **options: object) -> tuple[Outcome, ChatServer]:
    with ChatServer(behaviour) as server:
        model = OpenAICompatibleModel("test-model", server.url, first_pause_s=0.001, **options)  # type: ignore[arg-type]
        (outcome,) = complete_all(model, [ask("one two three")])
    return outcome, server


def test_replies_carry_text_and_the_usage_that_the_endpoint_reports() -> None:
    outcome, server = outcome_of(lambda body, times: Answer("four five"))
    assert isinstance(outcome, Reply)
    assert (outcome.text, outcome.prompt_tokens, outcome.completion_tokens) == ("four five", 3, 3)
    assert server.bodies[0]["model"] == "test-model"


def test_missing_usage_is_unknown_and_not_zero() -> None:
    outcome, _ = outcome_of(lambda body, times: Answer(usage=False))
    assert isinstance(outcome, Reply)
    assert outcome.prompt_tokens is None


def test_all_requests_are_answered_once_with_bounded_concurrency() -> None:
    with ChatServer(lambda body, times: Answer(body["messages"][0]["content"] + "!", delay_s=0.02)) as server:
        model = OpenAICompatibleModel("m", server.url, concurrency=4)
        outcomes = complete_all(model, [ask(str(i)) for i in range(20)])
    assert [outcome.text for outcome in outcomes] == [f"{i}!" for i in range(20)]
    assert 1 < server.most_running <= 4


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_passing_faults_are_retried(status: int) -> None:
    outcome, server = outcome_of(lambda body, times: Answer(status=status) if times < 3 else Answer("at last"))
    assert outcome.text == "at last"
    assert len(server.bodies) == 3


def test_a_fault_that_stays_is_a_failure_after_all_attempts() -> None:
    outcome, server = outcome_of(lambda body, times: Answer(status=500), attempts=4)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "unavailable"
    assert "HTTP 500" in outcome.message
    assert len(server.bodies) == 4


def test_retry_after_is_honoured() -> None:
    pauses: list[float] = []
    breaker = Breaker(sleep=pauses.append)
    reply = Answer(status=429, headers={"Retry-After": "37"})
    outcome, _ = outcome_of(lambda body, times: reply if times == 1 else Answer(), breaker=breaker)
    assert isinstance(outcome, Reply)
    assert pauses == [37.0]


def test_a_reply_cut_by_the_cap_is_its_own_failure_with_its_text() -> None:
    outcome, server = outcome_of(lambda body, times: Answer("half an ans", finish_reason="length"))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.text, outcome.prompt_tokens) == ("truncated", "half an ans", 3)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Answer("", finish_reason="content_filter"),
        Answer("", refusal="I will not"),
        Answer(status=400, error={"message": "blocked", "code": "content_filter", "type": "x"}),
    ],
)
def test_moderation_is_its_own_failure_and_is_not_retried(reply: Answer) -> None:
    outcome, server = outcome_of(lambda body, times: reply)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "moderated"
    assert len(server.bodies) == 1


def test_a_prompt_above_the_models_window_is_its_own_failure() -> None:
    error = {"message": "This model's maximum context length is 8192 tokens", "code": "context_length_exceeded"}
    outcome, _ = outcome_of(lambda body, times: Answer(status=400, error=error))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "too_long"


@pytest.mark.parametrize("raw", [b"<html>proxy</html>", b'{"choices": []}', b'{"choices": [{"index": 0}]}', b"[]"])
def test_an_answer_in_no_known_form_is_malformed(raw: bytes) -> None:
    outcome, _ = outcome_of(lambda body, times: Answer(raw=raw))
    assert isinstance(outcome, Failure)
    assert outcome.kind == "malformed"


def test_thinking_in_front_of_the_answer_is_not_part_of_it() -> None:
    outcome, _ = outcome_of(lambda body, times: Answer("<think>\nhm\n</think>\n\nForty-two"))
    assert outcome.text == "Forty-two"


def test_half_a_surrogate_pair_becomes_writable_text() -> None:
    outcome, _ = outcome_of(lambda body, times: Answer("a\ud83d"))
    assert outcome.text.encode()


def test_parameters_follow_what_newer_models_ask_for() -> None:
    def picky(body: Body, times: int) -> Answer:
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return Answer(status=400, error={"message": message, "code": "unsupported_parameter"})
        if "temperature" in body:
            message = "Unsupported value: 'temperature' does not support 0 with this model."
            return Answer(status=400, error={"message": message, "code": "unsupported_value"})
        if "seed" in body:
            return Answer(status=400, error={"message": "Extra inputs are not permitted: seed"})
        return Answer("fine")

    with ChatServer(picky) as server:
        model = OpenAICompatibleModel("m", server.url)
        outcomes = complete_all(model, [ask(text, seed=7) for text in ("one", "two")])
    assert [outcome.text for outcome in outcomes] == ["fine", "fine"]
    assert server.bodies[-1]["max_completion_tokens"] == 1024


def test_an_unreachable_endpoint_is_one_clear_line() -> None:
    with ChatServer() as server:
        url = server.url
    model = OpenAICompatibleModel("m", url, first_pause_s=0.001)
    with pytest.raises(EndpointError, match="cannot be reached") as error:
        complete_all(model, [ask("x"), ask("y")])
    assert "\n" not in str(error.value)
    assert url in str(error.value)


@pytest.mark.parametrize(("status", "words"), [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "model name")])
def test_permission_and_wrong_names_stop_at_once(status: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    error = {"message": f"Incorrect API key provided: {KEY}", "code": "x"}
    with pytest.raises(EndpointError, match=words) as raised:
        outcome_of(lambda body, times: Answer(status=status, error=error))
    assert KEY not in str(raised.value)


def test_a_used_up_quota_is_not_retried() -> None:
    error = {"message": "You exceeded your current quota", "code": "insufficient_quota", "type": "insufficient_quota"}
    with pytest.raises(EndpointError, match="quota"):
        outcome_of(lambda body, times: Answer(status=429, error=error))


def test_the_key_comes_from_the_environment_and_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer() as server:
        model = open_model(server.spec, ledger=tmp_path / "calls.sqlite")
        complete_all(model, [ask("Where is the river?\n\nThe river is here.")])
    assert server.authorizations == {f"Bearer {KEY}"}
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_hosted_endpoint_without_key_is_refused_before_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="OPENAI_API_KEY is not set"):
        OpenAICompatibleModel("m", "https://api.openai.com/v1")


def test_specs_may_hold_slashes_colons_and_at_signs() -> None:
    assert parse_endpoint("openai:org/m@v2:7b@https://h:8/v1/") == ("org/m@v2:7b", "https://h:8/v1")
    with pytest.raises(ConfigError, match="MODEL@BASE_URL"):
        parse_endpoint("openai:gpt")


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_circuit_opens_for_all_probes_once_and_gives_up_in_the_end() -> None:
    clock = Clock()
    breaker = Breaker(threshold=3, pause_s=10, longest_pause_s=40, give_up_s=100, clock=clock, sleep=clock.sleep)
    for _ in range(3):
        breaker.wait()
        breaker.failure("down")
    breaker.wait()
    assert clock.now >= 10
    breaker.success()
    before = clock.now
    breaker.wait()
    assert clock.now == before

    def call_for_ever() -> None:
        while True:
            breaker.wait()
            breaker.failure("down")

    with pytest.raises(EndpointError, match="run the same command again"):
        call_for_ever()
    assert clock.now - before > 100


def test_retry_after_is_read_as_seconds_milliseconds_or_date() -> None:
    assert retry_after_s({"retry-after": "2.5"}) == 2.5
    assert retry_after_s({"retry-after-ms": "250"}) == 0.25
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({}) is None
    ahead = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < (retry_after_s({"retry-after": ahead}) or 0) < 32
