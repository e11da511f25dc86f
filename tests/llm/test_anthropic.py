"""Claude's own protocol: the document is cached and billed so, the rest behaves as every endpoint does."""

from __future__ import annotations

from pathlib import Path

import pytest

from longalign.base.files import read_jsonl
from longalign.errors import ConfigError, EndpointError
from longalign.llm.base import Failure, Outcome, Reply, Request, complete_all
from longalign.llm.ledger import request_key
from longalign.llm.open import open_model
from tests.llm.chat_server import Answer, Behaviour
from tests.llm.messages_server import MessagesServer

pytest.importorskip("anthropic", reason="needs the extra `anthropic`")

from longalign.llm.anthropic import AnthropicModel, parse_endpoint

DOCUMENT = "The river flows east past the old mill. " * 300
PRICE = (3.0, 15.0)


def ask(text: str, shared: int = 0, **options: object) -> Request:
    message = {"role": "user", "content": text}
    return Request(messages=(message,), shared_prefix_characters=shared, **options)  # type: ignore[arg-type]


def outcome_of(behaviour: Behaviour, request: Request | None = None) -> tuple[Outcome, MessagesServer]:
    with MessagesServer(behaviour) as server:
        model = AnthropicModel("test-model", server.url, first_pause_s=0.001)
        (outcome,) = complete_all(model, [request or ask("one two three")])
    return outcome, server


def test_a_shared_document_is_written_to_the_cache_once_and_billed_as_read_after_that(tmp_path: Path) -> None:
    questions = [f"{DOCUMENT}\n\nQuestion {n}?" for n in range(3)]
    with MessagesServer(lambda body, times: Answer("yes")) as server:
        model = open_model(server.spec, ledger=tmp_path / "ledger.sqlite", price_usd_per_million=PRICE)
        replies = [complete_all(model, [ask(text, len(DOCUMENT))])[0] for text in questions]
    document, question, new = len(DOCUMENT.split()), 2, 2
    for reply, factor in zip(replies, (1.25, 0.1, 0.1), strict=True):
        assert isinstance(reply, Reply)
        assert reply.prompt_tokens == document + question
        assert reply.cost_usd == pytest.approx(((factor * document + question) * 3 + new * 15) / 1e6)
    sent = [body["messages"][0]["content"] for body in server.bodies]
    assert {blocks[0]["text"] for blocks in sent} == {DOCUMENT}
    assert ["".join(block["text"] for block in blocks) for blocks in sent] == questions


def test_a_short_document_is_not_marked() -> None:
    _, server = outcome_of(lambda body, times: Answer(), ask("Short text.\n\nQ?", shared=11))
    assert server.bodies[0]["messages"][0]["content"] == "Short text.\n\nQ?"


def test_the_mark_changes_no_ledger_key() -> None:
    assert request_key("m", ask("text", shared=3)) == request_key("m", ask("text"))


def test_a_cap_on_money_counts_what_writing_the_cache_can_cost(tmp_path: Path) -> None:
    text = f"{DOCUMENT}\n\nQuestion?"
    worst = (1.25 * (len(text) + 32) * 3 + 1024 * 15) / 1e6
    for cap, kind in ((worst * 0.999, "over_budget"), (worst * 1.001, None)):
        with MessagesServer(lambda body, times: Answer("yes")) as server:
            ledger = tmp_path / f"{kind}.sqlite"
            model = open_model(server.spec, ledger=ledger, price_usd_per_million=PRICE, max_cost_usd=cap)
            (outcome,) = complete_all(model, [ask(text, len(DOCUMENT))])
        assert getattr(outcome, "kind", None) == kind


def test_system_messages_stops_and_the_cap_are_put_as_the_protocol_wants() -> None:
    talk = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."})
    _, server = outcome_of(
        lambda body, times: Answer(), Request(messages=talk, stop=("END",), max_new_tokens=7, temperature=0.5)
    )
    (body,) = server.bodies
    assert (body["system"], body["stop_sequences"], body["max_tokens"]) == ("Be brief.", ["END"], 7)
    assert body["messages"] == [{"role": "user", "content": "Hello."}]
    assert body["temperature"] == 0.5


def test_a_model_that_fixes_its_temperature_is_asked_without_one() -> None:
    def choosy(body: dict[str, object], times: int) -> Answer:
        if "temperature" in body:
            error = {"type": "invalid_request_error", "message": "temperature is not supported by this model"}
            return Answer(status=400, error=error)
        return Answer("fine")

    outcome, server = outcome_of(choosy)
    assert outcome.text == "fine"
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("max_tokens", "truncated"), ("refusal", "moderated"), ("model_context_window_exceeded", "too_long")],
)
def test_replies_that_are_no_data_are_named(reason: str, kind: str) -> None:
    outcome, _ = outcome_of(lambda body, times: Answer("half", finish_reason=reason))
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.text, outcome.prompt_tokens) == (kind, "half", 3)


@pytest.mark.parametrize("status", [429, 500, 529])
def test_passing_faults_are_retried(status: int) -> None:
    outcome, server = outcome_of(lambda body, times: Answer(status=status) if times < 3 else Answer("at last"))
    assert outcome.text == "at last"
    assert len(server.bodies) == 3


def test_permission_stops_at_once_and_names_the_variable() -> None:
    with pytest.raises(EndpointError, match="check ANTHROPIC_API_KEY"):
        outcome_of(lambda body, times: Answer(status=401))


def test_a_used_up_account_stops_at_once() -> None:
    error = {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API."}
    with pytest.raises(EndpointError, match="quota is used up"):
        outcome_of(lambda body, times: Answer(status=400, error=error))


def test_a_key_is_needed_for_the_hosted_endpoint_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="ANTHROPIC_API_KEY is not set"):
        open_model("anthropic:claude-x")
    assert parse_endpoint("anthropic:claude-x@http://localhost:1/") == ("claude-x", "http://localhost:1")
    with pytest.raises(ConfigError, match="write anthropic:MODEL"):
        parse_endpoint("anthropic:@http://localhost")


def test_rows_are_built_through_it_with_each_document_cached(tmp_path: Path) -> None:
    from longalign.config import DataSettings
    from longalign.data.build import build

    with MessagesServer() as server:
        settings = DataSettings(
            preset="paper",
            documents=("builtin:python-docs",),
            llm=server.spec,
            rows=4,
            min_length_tokens=2500,
            max_length_tokens=8192,
            price_usd_per_million=PRICE,
        )
        report = build(settings, tmp_path / "rows.jsonl")
    assert len(read_jsonl(tmp_path / "rows.jsonl")) == 4
    usages = [body["messages"][0]["content"] for body in server.bodies]
    marked = [blocks[0]["text"] for blocks in usages if isinstance(blocks, list)]
    assert len(marked) == len(server.bodies)
    assert len(set(marked)) < len(marked)
    assert 0 < report["spend"]["spent_usd"] < 0.2
