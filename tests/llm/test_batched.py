"""A model asked through its batch API: outcomes as of plain calls, each paid once, and never more than the cap."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longalign.config import ExecutorSettings
from longalign.errors import ConfigError, EndpointError, LongAlignError, RunError
from longalign.llm.base import Failure, LanguageModel, Outcome, Reply, Request, close_model, complete_all
from longalign.llm.batched import BatchedModel
from longalign.llm.ledger import Ledger
from longalign.llm.open import open_model
from longalign.llm.openai import OpenAICompatibleModel
from tests.llm.batch_server import Batch, BatchServer
from tests.llm.chat_server import Answer, Body, ChatServer

PRICE = (10.0, 20.0)


def ask(number: int, **options: Any) -> Request:
    return Request(messages=({"role": "user", "content": f"Question {number} of a document?"},), **options)


ASKED = [ask(number) for number in range(10)]


def echo(body: Body, times: int) -> Answer:
    return Answer(f"The answer to {body['messages'][-1]['content'].split()[1]}.")


def model_of(server: ChatServer, path: Path, *, cap: float | None = None, **settings: Any) -> LanguageModel:
    return open_model(
        server.spec,
        ledger=path,
        price_usd_per_million=PRICE,
        max_cost_usd=cap,
        batch=ExecutorSettings(executor="batch", batch_poll_s=0.01, **settings),
    )


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [outcome.kind if isinstance(outcome, Failure) else "reply" for outcome in outcomes]


@pytest.mark.parametrize("fate", ["expired", "cancelled"])
def test_what_a_batch_answered_before_its_end_counts_and_the_rest_is_asked_again(fate: str, tmp_path: Path) -> None:
    def first_ends_early(batch: Batch) -> None:
        if batch.id == "batch-0":
            batch.fate, batch.share = fate, 0.4

    with BatchServer(echo, decide=first_ends_early) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        outcomes = complete_all(model, ASKED)
        close_model(model)
        assert [outcome.text for outcome in outcomes if isinstance(outcome, Reply)] == [
            f"The answer to {number}." for number in range(10)
        ]
        assert server.sizes == [10, 6]
        assert set(server.answered.values()) == {1}


def test_a_request_that_three_batches_leave_open_fails_and_can_be_asked_again(tmp_path: Path) -> None:
    def expire(batch: Batch) -> None:
        batch.fate, batch.share = "expired", 0.0

    with BatchServer(echo, decide=expire) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        (outcome,) = complete_all(model, ASKED[:1])
        assert isinstance(outcome, Failure)
        assert outcome.kind == "unavailable"
        assert outcome.message.endswith("(3 batches)")
        assert outcome.cost_usd in (0.0, None)
        server.decide = lambda batch: None
        assert kinds(complete_all(model, ASKED[:1])) == ["reply"]
        close_model(model)


ODD: dict[str, Callable[[], Answer]] = {
    "too long": lambda: Answer(status=400, error={"message": "This model's maximum context length is 8 tokens"}),
    "moderated": lambda: Answer(status=400, error={"code": "content_filter", "message": "no"}),
    "refused": lambda: Answer(status=400, error={"message": "no such thing"}),
    "cut": lambda: Answer("half", finish_reason="length"),
    "thoughts": lambda: Answer("<think>hm"),
    "thoughts and answer": lambda: Answer("yes", message={"reasoning_content": "hm"}),
    "filtered": lambda: Answer("", finish_reason="content_filter"),
    "silent": lambda: Answer(""),
    "no reason": lambda: Answer("yes", finish_reason=None),
    "a refusal": lambda: Answer("", refusal="I will not"),
    "no counts": lambda: Answer("yes", usage=False),
}


@pytest.mark.parametrize("name", ODD)
def test_every_odd_reply_is_the_outcome_that_a_plain_call_gives(name: str, tmp_path: Path) -> None:
    with BatchServer(lambda body, times: ODD[name]()) as server:
        model = model_of(server, tmp_path / "ledger.sqlite", batch_price_share=1)
        (batched,) = complete_all(model, ASKED[:1])
        close_model(model)
        plain = open_model(server.spec, ledger=tmp_path / "plain.sqlite", price_usd_per_million=PRICE)
        (called,) = complete_all(plain, ASKED[:1])
        close_model(plain)
    fields = {name: value for name, value in vars(called).items() if name != "wall_s"}
    assert {name: value for name, value in vars(batched).items() if name != "wall_s"} == fields


def test_passing_errors_of_requests_are_asked_again_in_another_batch(tmp_path: Path) -> None:
    def busy(body: Body, times: int) -> Answer:
        number = int(body["messages"][-1]["content"].split()[1])
        return Answer(status=429) if times <= number % 3 else echo(body, times)

    with BatchServer(busy) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        assert kinds(complete_all(model, ASKED)) == ["reply"] * 10
        close_model(model)
        assert server.sizes == [10, 6, 3]


def test_parameters_that_the_model_refuses_are_left_out_of_the_next_batch(tmp_path: Path) -> None:
    def strict(body: Body, times: int) -> Answer:
        if "max_tokens" in body:
            return Answer(status=400, error={"message": "use 'max_completion_tokens' in place of 'max_tokens'"})
        if "temperature" in body:
            return Answer(status=400, error={"message": "'temperature' does not support 0, only the default (1)"})
        return echo(body, times)

    with BatchServer(strict) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        assert kinds(complete_all(model, ASKED)) == ["reply"] * 10
        close_model(model)
        assert server.sizes == [10, 10, 10]


def test_a_key_without_permission_ends_the_run_and_the_next_one_asks_again(tmp_path: Path) -> None:
    allowed = False

    def barred(body: Body, times: int) -> Answer:
        good = allowed or "Question 3 " in body["messages"][0]["content"]
        return echo(body, times) if good else Answer(status=401, error={"message": "wrong key"})

    with BatchServer(barred) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        with pytest.raises(EndpointError, match="HTTP 401 for requests of a batch: wrong key"):
            complete_all(model, ASKED)
        close_model(model)
        allowed = True
        model = model_of(server, tmp_path / "ledger.sqlite")
        assert kinds(complete_all(model, ASKED)) == ["reply"] * 10
        close_model(model)
        assert server.sizes == [10, 9]


def test_a_full_queue_makes_batches_smaller_until_they_fit(tmp_path: Path) -> None:
    def small_queue(batch: Batch) -> None:
        others = sum(len(other.lines) for other in server.batches.values() if other.status != other.fate)
        if len(batch.lines) + others > 3:
            batch.fate = "failed"
            batch.errors = [{"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached."}]

    with BatchServer(echo, decide=small_queue) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        assert kinds(complete_all(model, ASKED)) == ["reply"] * 10
        close_model(model)
        assert set(server.answered.values()) == {1}


def test_a_batch_that_fails_whole_ends_with_the_providers_words(tmp_path: Path) -> None:
    def fail(batch: Batch) -> None:
        batch.fate = "failed"
        batch.errors = [{"code": "model_not_found", "line": None, "message": "no batch model `test-model`"}]

    with BatchServer(echo, decide=fail) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        with pytest.raises(EndpointError, match="batch-0 failed: no batch model `test-model`"):
            complete_all(model, ASKED)
        close_model(model)
        server.decide = lambda batch: None
        model = model_of(server, tmp_path / "ledger.sqlite")
        assert kinds(complete_all(model, ASKED)) == ["reply"] * 10
        close_model(model)


def test_a_line_that_makes_a_batch_fail_costs_this_request_alone(tmp_path: Path) -> None:
    def check(batch: Batch) -> None:
        for number, line in enumerate(batch.lines, 1):
            if "Question 4 " in line["body"]["messages"][0]["content"]:
                batch.fate = "failed"
                batch.errors = [{"code": "invalid", "line": number, "message": "line is not valid"}]

    with BatchServer(echo, decide=check) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        outcomes = complete_all(model, ASKED)
        close_model(model)
    assert kinds(outcomes) == ["reply"] * 4 + ["rejected"] + ["reply"] * 5


def test_nothing_is_submitted_that_could_pass_the_cap(tmp_path: Path) -> None:
    """The worst case, counted anew here: a token a byte of prompt, and all new tokens."""
    cap, half = 0.05, (PRICE[0] / 2 / 1e6, PRICE[1] / 2 / 1e6)
    under_way: list[float] = []

    def worst(line: Body) -> float:
        size = sum(len(message["content"]) + 32 for message in line["body"]["messages"])
        return size * half[0] + line["body"]["max_tokens"] * half[1]

    def watch(batch: Batch) -> None:
        paid = 0.0
        for body in (line["body"] for other in server.batches.values() for line in other.lines):
            paid += sum(len(m["content"].split()) for m in body["messages"]) * half[0] + 5 * half[1]
        under_way.append(paid + sum(worst(line) for line in batch.lines))

    with BatchServer(echo, decide=watch) as server:
        model = model_of(server, tmp_path / "ledger.sqlite", cap=cap)
        outcomes = complete_all(model, [ask(number) for number in range(600)])
        answered = kinds(outcomes).count("reply")
        assert len(under_way) > 2
        assert max(under_way) <= cap
        assert 0 < answered < 600
        assert {kind for kind in kinds(outcomes) if kind != "reply"} == {"over_budget"}
        spent = [outcome.cost_usd for outcome in outcomes if isinstance(outcome, Reply)]
        assert isinstance(model, BatchedModel)
        assert model.ledger.spent_usd() == pytest.approx(sum(usd or 0 for usd in spent))
        assert cap - model.ledger.spent_usd() < worst({"body": {"messages": ASKED[0].messages, "max_tokens": 1024}})
        close_model(model)


@pytest.mark.parametrize("step", ["upload", "uploaded", "create", "created", "list", "poll", "content"])
def test_passing_errors_of_the_api_are_tried_again_and_no_batch_is_created_twice(step: str, tmp_path: Path) -> None:
    def fail_first(name: str, number: int) -> int | None:
        return 503 if name == step and number <= 2 else None

    pauses: list[float] = []
    with BatchServer(echo, on=fail_first) as server:
        ledger = Ledger(tmp_path / "ledger.sqlite")
        endpoint = OpenAICompatibleModel(server.model, server.url)
        settings = ExecutorSettings(executor="batch", batch_poll_s=0.01)
        model = BatchedModel(endpoint, ledger, price=PRICE, max_cost_usd=None, settings=settings, sleep=pauses.append)
        assert kinds(complete_all(model, ASKED)) == ["reply"] * 10
        assert len(server.batches) == 1
        assert (1.0 in pauses) == (step != "list")
        close_model(model)


def test_a_batch_that_the_list_shows_late_is_found_after_a_kill(tmp_path: Path) -> None:
    """The process dies between sending and hearing of a creation: the batch counts, though not listed at once."""

    def die(name: str, number: int) -> int | None:
        if name == "created":
            raise_in_client.append(True)
            return 400  # what the dead process would not have seen
        return None

    raise_in_client: list[bool] = []
    pauses: list[float] = []
    with BatchServer(echo, on=die) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        with pytest.raises(EndpointError):
            complete_all(model, ASKED)
        close_model(model)
        server.list_after_s = float("inf")

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            server.list_after_s = 0.0

        server.on = lambda name, number: None
        endpoint = OpenAICompatibleModel(server.model, server.url)
        settings = ExecutorSettings(executor="batch", batch_poll_s=0.01)
        ledger = Ledger(tmp_path / "ledger.sqlite")
        again = BatchedModel(endpoint, ledger, price=PRICE, max_cost_usd=None, settings=settings, sleep=pause)
        assert kinds(complete_all(again, ASKED)) == ["reply"] * 10
        assert pauses[0] > 5
        assert len(server.batches) == 1
        close_model(again)


def test_a_server_without_batch_api_says_which_setting_helps(tmp_path: Path) -> None:
    with ChatServer() as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        with pytest.raises(ConfigError, match=r"HTTP 404.*no batch API: use --executor local"):
            complete_all(model, ASKED)
        close_model(model)


@pytest.mark.parametrize("spec", ["offline", "anthropic:claude-haiku@http://localhost:1"])
def test_a_model_without_batch_api_is_refused_in_one_line(spec: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="executor batch: no batch API is known of") as error:
        open_model(spec, ledger=tmp_path / "l.sqlite", batch=ExecutorSettings(executor="batch"))
    assert "\n" not in str(error.value)


def submitted_and_killed(server: BatchServer, path: Path) -> None:
    """A ledger with a batch under way, whose process is gone."""

    class KilledError(Exception):
        pass

    def kill(seconds: float) -> None:
        raise KilledError

    ledger = Ledger(path)
    settings = ExecutorSettings(executor="batch")
    endpoint = OpenAICompatibleModel(server.model, server.url)
    model = BatchedModel(endpoint, ledger, price=PRICE, max_cost_usd=None, settings=settings, sleep=kill)
    with pytest.raises(KilledError):
        complete_all(model, ASKED)
    close_model(model)


def test_a_batch_that_the_provider_lost_stops_the_run_or_is_paid_again_as_one_says(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with BatchServer(echo) as server:
        submitted_and_killed(server, path)
        server.batches.clear()
        model = model_of(server, path)
        with pytest.raises(EndpointError, match="pay for its 10 requests again with --lost_batches again"):
            complete_all(model, ASKED)
        close_model(model)
        model = model_of(server, path, lost_batches="again")
        assert kinds(complete_all(model, ASKED)) == ["reply"] * 10
        assert isinstance(model, BatchedModel)
        assert model.ledger.totals().lost_calls == 10
        close_model(model)


def test_plain_calls_never_repeat_what_is_in_a_batch(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with BatchServer(echo) as server:
        submitted_and_killed(server, path)
        plain = open_model(server.spec, ledger=path)
        with pytest.raises(RunError, match="go on with --executor batch"):
            complete_all(plain, ASKED)
        close_model(plain)
        assert not server.bodies


def test_a_batch_under_way_counts_against_the_cap_at_its_worst_case_and_then_at_its_cost(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    other = [ask(number) for number in range(100, 103)]
    with BatchServer(echo) as server:
        submitted_and_killed(server, path)
        ledger = Ledger(path)
        held = sum(ledger.budget.reserved(number) for number in range(1, 11))
        ledger.close()
        worst = held / 10
        model = model_of(server, path, cap=held + 0.9 * worst / 2)  # half the price: no room beside the batch
        assert kinds(complete_all(model, other)) == ["reply"] * 3
        assert server.sizes == [10, 3], "they waited for the first batch, whose lines nobody asked for"
        assert isinstance(model, BatchedModel)
        assert len(model.store.arrived) == 10
        close_model(model)
        model = model_of(server, path)
        assert kinds(complete_all(model, ASKED)) == ["reply"] * 10
        assert len(server.batches) == 2
        close_model(model)


def test_settings_of_the_executor_change_no_row() -> None:
    from longalign.base.decides import decides

    assert {decides(ExecutorSettings, name) for name in ExecutorSettings.model_fields} == {"execution"}


def test_lines_of_the_input_hold_what_a_plain_call_sends(tmp_path: Path) -> None:
    request = ask(1, seed=7, stop=("x",), top_p=0.5, extra_body={"min_p": 0.1}, reasoning_effort="low")
    with BatchServer(echo) as server:
        model = model_of(server, tmp_path / "ledger.sqlite")
        complete_all(model, [request])
        complete_all(OpenAICompatibleModel(server.model, server.url), [request])
        (batch,) = server.batches.values()
        assert [line["body"] for line in batch.lines] == server.bodies
        assert len(batch.lines[0]["custom_id"]) == 64
        assert json.loads(server.files[batch.file_id])["url"] == "/v1/chat/completions"
        close_model(model)
    assert issubclass(EndpointError, LongAlignError)
