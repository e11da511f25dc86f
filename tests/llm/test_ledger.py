"""The ledger never pays twice, never passes the cap, and forgets nothing that was spent."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from longalign.errors import ConfigError, EndpointError, RunError
from longalign.llm.base import Failure, Outcome, Reply, Request, complete_all
from longalign.llm.ledger import Ledger, failed_calls, request_key
from longalign.llm.ledger_export import export_calls
from longalign.llm.ledgered import LedgeredModel
from longalign.llm.open import open_model
from tests.llm.chat_server import Answer, Body, ChatServer

PRICE = (1000.0, 2000.0)  # dollars a million: a thousandth of a dollar per prompt token


def ask(text: str, cap: int = 4) -> Request:
    return Request(messages=({"role": "user", "content": text},), max_new_tokens=cap)


class Echo:
    """Counts its calls; says each word of the prompt is a token and answers with two."""

    name = "echo"
    batched = False

    def __init__(self) -> None:
        self.calls = 0

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        for index, request in enumerate(requests):
            self.calls += 1
            text = request.messages[-1]["content"]
            if text.startswith("down"):
                raise EndpointError("down")
            if text.startswith("cut"):
                yield index, Failure(kind="truncated", message="cut", prompt_tokens=1, completion_tokens=4)
            elif text.startswith("lost"):
                yield index, Failure(kind="unavailable", message="timeout", maybe_billed=True)
            else:
                yield index, Reply(text=text, prompt_tokens=len(text.split()), completion_tokens=2, model="echo")


def test_a_remembered_reply_costs_no_call_and_survives_the_process(tmp_path: Path) -> None:
    echo = Echo()
    for run in range(2):
        ledger = Ledger(tmp_path / "l.sqlite")
        model = LedgeredModel(echo, ledger, price=PRICE)
        outcomes = complete_all(model, [ask("a b c"), ask("d"), ask("a b c")])
        assert [outcome.text for outcome in outcomes] == ["a b c", "d", "a b c"]
        assert all(outcome.cached for outcome in outcomes) == bool(run)
        ledger.close()
    assert echo.calls == 2
    assert Ledger(tmp_path / "l.sqlite").spent_usd() == pytest.approx((3 + 1 + 2 * 2 * 2) * 1e-3)


def test_every_part_of_a_request_is_part_of_its_key() -> None:
    base = ask("x")
    others = [
        ask("y"),
        ask("x", cap=5),
        Request(messages=base.messages, max_new_tokens=4, temperature=0.5),
        Request(messages=base.messages, max_new_tokens=4, seed=1),
        Request(messages=base.messages, max_new_tokens=4, stop=("a",)),
        Request(messages=({"role": "system", "content": "x"},), max_new_tokens=4),
    ]
    keys = {request_key("m", request) for request in [base, *others]} | {request_key("n", base)}
    assert len(keys) == len(others) + 2


def test_final_failures_are_remembered_and_passing_ones_are_asked_again(tmp_path: Path) -> None:
    echo = Echo()
    model = LedgeredModel(echo, Ledger(tmp_path / "l.sqlite"), price=PRICE)
    for _ in range(2):
        cut, lost = complete_all(model, [ask("cut"), ask("lost")])
    assert (cut.cached, lost.cached, echo.calls) == (True, False, 3)
    totals = model.ledger.totals()
    assert totals.lost_calls == 2
    assert totals.spent_usd == pytest.approx((1 + 4 * 2) * 1e-3 + 2 * model.worst_usd(ask("lost")), rel=0.5)


def test_thoughts_that_an_earlier_version_remembered_as_answers_are_taken_out(tmp_path: Path) -> None:
    path, said = (
        tmp_path / "l.sqlite",
        {"both": "hm\n</think>\n\nyes<|im_end|>", "only": "<think>hm", "plain": "y\x00es"},
    )

    class Says(Echo):
        def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
            yield from ((i, Reply(text=said[r.messages[0]["content"]], model="m")) for i, r in enumerate(requests))

    def outcomes() -> list[Outcome]:
        ledger = Ledger(path)
        try:
            return complete_all(LedgeredModel(Says(), ledger, price=None), [ask(name) for name in said])
        finally:
            ledger.close()

    outcomes()
    with sqlite3.connect(path) as database:  # as version 0.1 wrote it
        database.execute("UPDATE replies SET outcome = json_remove(outcome, '$.reasoning', '$.cleaned_characters')")
    both, only, plain = outcomes()
    assert isinstance(both, Reply)
    assert (both.text, both.reasoning, both.model) == ("yes", "hm", "m")
    assert isinstance(only, Failure)
    assert (only.kind, only.reasoning, only.cached) == ("only_thinking", "hm", True)
    assert plain.text == "yes"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.floats(0, 0.4))
@example([1, 1, 46], 0.0625)  # dense text after sparse: a ratio seen so far would have let it through
def test_the_cap_is_never_passed(word_counts: list[int], cap: float) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "l.sqlite")
        model = LedgeredModel(Echo(), ledger, price=PRICE, max_cost_usd=cap)
        outcomes = [complete_all(model, [ask(f"{i} " + "w " * n)])[0] for i, n in enumerate(word_counts)]
        assert ledger.spent_usd() <= cap + 1e-12
        refused = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        assert all(outcome.kind == "over_budget" for outcome in refused)
        ledger.close()


def test_the_cap_holds_over_threads_and_over_resumes(tmp_path: Path) -> None:
    with ChatServer(lambda body, times: Answer("four words are here", delay_s=0.01)) as server:
        for _ in range(2):
            model = open_model(
                server.spec,
                ledger=tmp_path / "l.sqlite",
                price_usd_per_million=PRICE,
                max_cost_usd=0.3,
                concurrency=4,
            )
            questions = [[ask(f"{i} some words", cap=6)] for i in range(30)]
            threads = [threading.Thread(target=complete_all, args=(model, asked)) for asked in questions]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        calls = len(server.bodies)
    spent = Ledger(tmp_path / "l.sqlite").spent_usd()
    assert spent <= 0.3
    assert calls == pytest.approx(spent / ((3 + 5 * 2) * 1e-3))
    assert calls >= 5


class Tokens:
    """Answers at length or briefly, and reports a quarter of a token a byte of prompt."""

    name = "tokens"
    batched = False

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        for index, request in enumerate(requests):
            text = request.messages[-1]["content"]
            yield index, Reply(text="ok", prompt_tokens=len(text) // 4, completion_tokens=int(text.split()[1]))


@settings(max_examples=2, deadline=None)
@given(st.lists(st.tuples(st.integers(2000, 4000), st.integers(1, 40)), min_size=2, max_size=6), st.integers(1, 4))
def test_a_cap_is_used_to_nine_tenths_and_never_passed_over_threads_and_kills(
    kinds: list[tuple[int, int]], in_flight: int
) -> None:
    """The cap is sixteen worst cases; every third call dies with its process and stays on the books."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "l.sqlite"
        cap, worst = 0.0, (4100 * PRICE[0] + 40 * PRICE[1]) / 1e6
        cap = 16 * worst
        for run in range(3):
            ledger = Ledger(path)
            model = LedgeredModel(Tokens(), ledger, price=PRICE, max_cost_usd=cap)

            def work(thread: int, model: LedgeredModel = model, run: int = run) -> None:
                for i in range(60 if run < 2 else 10_000):
                    size, new = kinds[i % len(kinds)]
                    request = ask(f"{run}/{thread}/{i} {new} ".ljust(size, "w"), cap=40)
                    if isinstance(complete_all(model, [request])[0], Failure):
                        return

            threads = [threading.Thread(target=work, args=(thread,)) for thread in range(in_flight)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert ledger.spent_usd() <= cap + 1e-9
            if run < 2:
                ledger.begin("dies", worst / 8, cap)  # a kill: begun, never ended
            ledger.close()
        assert Ledger(path).spent_usd() >= 0.9 * cap


def test_many_threads_lose_and_double_no_call(tmp_path: Path) -> None:
    model = LedgeredModel(Echo(), Ledger(tmp_path / "l.sqlite"), price=PRICE)
    threads = [
        threading.Thread(target=complete_all, args=(model, [ask(f"{thread} {i}") for i in range(20)]))
        for thread in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = model.ledger.spent_usd()
    model.close()
    again = Ledger(tmp_path / "l.sqlite")
    assert again.totals().calls == 16 * 20
    assert again.spent_usd() == pytest.approx(kept) == pytest.approx(16 * 20 * (2 + 2 * 2) * 1e-3)


class Mended:
    """Refuses some requests until its settings are changed; counts what it is asked."""

    name = "mended"
    batched = False

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.mended = False

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        for index, request in enumerate(requests):
            text = request.messages[-1]["content"]
            self.asked.append(text)
            if text in ("too_long", "rejected") and not self.mended:
                yield index, Failure(kind=text, message="no")  # type: ignore[arg-type]
            elif text == "truncated" and not self.mended:
                yield index, Failure(kind="truncated", message="cut", prompt_tokens=1, completion_tokens=4)
            else:
                yield index, Reply(text="fine", prompt_tokens=1, completion_tokens=1)


@pytest.mark.parametrize(
    ("retry", "again"),
    [
        ((), ["too_long", "rejected"]),  # refusals cost nothing and are not remembered
        (("too_long",), ["too_long"]),
        (("truncated", "rejected"), ["rejected", "truncated"]),
        (("failed",), ["too_long", "rejected", "truncated"]),
    ],
)
def test_what_is_asked_again(retry: tuple[str, ...], again: list[str], tmp_path: Path) -> None:
    mended, requests = Mended(), [ask(text) for text in ("good", "too_long", "rejected", "truncated")]
    first = LedgeredModel(mended, Ledger(tmp_path / "l.sqlite"), price=PRICE)
    complete_all(first, requests)
    first.close()
    spent = Ledger(tmp_path / "l.sqlite").spent_usd()
    assert failed_calls(tmp_path / "l.sqlite", ("failed",)) == 3
    mended.asked.clear()
    mended.mended = True
    ledger = Ledger(tmp_path / "l.sqlite")
    if retry:
        ledger.forget(retry)
        assert ledger.spent_usd() == pytest.approx(spent), "what was paid stays paid"
    outcomes = complete_all(LedgeredModel(mended, ledger, price=PRICE), requests)
    assert sorted(mended.asked) == sorted(again)
    assert outcomes[0].cached
    ledger.close()
    assert Ledger(tmp_path / "l.sqlite").spent_usd() == pytest.approx(spent + len(again) * 3e-3)


def test_a_call_that_a_dead_process_left_open_counts_at_its_worst_case(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    assert ledger.begin("key", 0.25, None) is not None
    ledger.close()  # as a kill leaves it: begun, never ended
    again = Ledger(tmp_path / "l.sqlite")
    assert again.spent_usd() == 0.25
    assert again.totals().lost_calls == 1


def test_an_endpoint_that_is_down_leaves_no_reservation(tmp_path: Path) -> None:
    model = LedgeredModel(Echo(), Ledger(tmp_path / "l.sqlite"), price=PRICE, max_cost_usd=1.0)
    with pytest.raises(EndpointError):
        complete_all(model, [ask("down")])
    model.ledger.close()
    assert Ledger(tmp_path / "l.sqlite").spent_usd() == 0


def test_without_a_price_cost_is_unknown_and_not_zero(tmp_path: Path) -> None:
    model = LedgeredModel(Echo(), Ledger(tmp_path / "l.sqlite"), price=None)
    (outcome,) = complete_all(model, [ask("a")])
    assert outcome.cost_usd is None
    assert model.ledger.totals().spent_usd is None


def test_a_cap_needs_a_price_and_a_ledger(tmp_path: Path) -> None:
    spec = "openai:m@http://127.0.0.1:9/v1"
    with pytest.raises(ConfigError, match="price_usd_per_million"):
        open_model(spec, ledger=tmp_path / "l.sqlite", max_cost_usd=1.0)
    with pytest.raises(ConfigError, match="ledger"):
        open_model(spec, max_cost_usd=1.0, price_usd_per_million=PRICE)


def test_the_export_holds_every_call_of_a_folder_with_its_money(tmp_path: Path) -> None:
    for name in ("eval/ledger.sqlite", "data/long.ledger.sqlite"):
        model = LedgeredModel(Echo(), Ledger(tmp_path / name), price=PRICE)
        complete_all(model, [ask("a b"), ask("cut")])
        model.ledger.begin("under way", 0.25, None)
        model.close()
    Ledger(tmp_path / "data" / "long.ledger.sqlite").close()  # a later run counts what a dead one left open as lost
    found = export_calls(tmp_path, tmp_path / "calls.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows if "long" in row["ledger"]] == ["reply", "truncated", "lost"]
    assert found["calls"] == len(rows) == 5, "the call under way is nobody's yet"
    assert sum(row["cost_usd"] for row in rows) == pytest.approx(found["spent_usd"])
    reopened = Ledger(tmp_path / "data" / "long.ledger.sqlite")
    of_rows = export_calls(tmp_path / "data" / "long.jsonl", tmp_path / "long-calls.jsonl")
    assert of_rows["spent_usd"] == pytest.approx(reopened.spent_usd())
    assert [row["outcome"]["text"] for row in rows if row["kind"] == "reply"] == ["a b"] * 2
    with pytest.raises(RunError, match="no ledger of paid calls"):
        export_calls(tmp_path / "nothing.jsonl", tmp_path / "x.jsonl")


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.sqlite").write_text("not a database, but long enough to look at" * 30)
    with pytest.raises(RunError, match="not a ledger"):
        Ledger(tmp_path / "l.sqlite")


def test_a_served_body_is_what_the_key_covers(tmp_path: Path) -> None:
    seen: list[Body] = []

    def record(body: Body, times: int) -> Answer:
        seen.append(body)
        return Answer()

    with ChatServer(record) as server:
        model = open_model(server.spec, ledger=tmp_path / "l.sqlite")
        complete_all(
            model, [Request(messages=ask("x").messages, max_new_tokens=7, temperature=0.5, seed=3, stop=("s",))]
        )
    assert {k: seen[0][k] for k in ("max_tokens", "temperature", "seed", "stop")} == {
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["s"],
    }


def test_every_attempt_that_may_be_charged_is_counted(tmp_path: Path) -> None:
    """Two attempts run into the time limit, the third is answered: two worst cases and what the answer cost."""
    with ChatServer(lambda body, times: Answer("fine", delay_s=1.0 if times < 3 else 0.0)) as server:
        model = open_model(server.spec, ledger=tmp_path / "l.sqlite", price_usd_per_million=(10.0, 20.0), timeout_s=0.2)
        (outcome,) = complete_all(model, [ask("one two three")])
        assert isinstance(outcome, Reply)
        assert outcome.lost_attempts == 2
        worst = model.worst_usd(ask("one two three"))  # type: ignore[attr-defined]
        assert outcome.cost_usd == pytest.approx(2 * worst + (3 * 10 + 2 * 20) / 1e6)
        assert model.ledger.spent_usd() == pytest.approx(outcome.cost_usd)  # type: ignore[attr-defined]


def test_under_a_cap_an_attempt_that_may_be_charged_is_not_repeated(tmp_path: Path) -> None:
    with ChatServer(lambda body, times: Answer("late", delay_s=1.0)) as server:
        model = open_model(
            server.spec,
            ledger=tmp_path / "l.sqlite",
            price_usd_per_million=(10.0, 20.0),
            max_cost_usd=1.0,
            timeout_s=0.2,
        )
        (outcome,) = complete_all(model, [ask("one two three")])
        assert isinstance(outcome, Failure)
        assert outcome.kind == "unavailable"
        assert len(server.bodies) == 1
        assert model.ledger.spent_usd() == pytest.approx(model.worst_usd(ask("one two three")))  # type: ignore[attr-defined]
