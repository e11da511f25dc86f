"""Endpoints with faults: what costs a row, what costs time, and what ends the run."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from longalign.errors import EndpointError
from longalign.llm.attempts import OWN_ATTEMPTS
from longalign.llm.base import Failure, Reply, Request, complete_all, has_answered
from longalign.llm.breaker import Breaker
from longalign.llm.openai import OpenAICompatibleModel
from longalign.llm.slots import Slots
from tests.llm.chat_server import Answer, Body, ChatServer, payload


def asked(text: str) -> Request:
    return Request(messages=({"role": "user", "content": text},), max_new_tokens=8)


def model_at(server: ChatServer, **options: object) -> OpenAICompatibleModel:
    return OpenAICompatibleModel(server.model, server.url, first_pause_s=0.001, **options)


def test_prompts_that_always_fail_cost_themselves_and_nobody_else_also_at_the_end() -> None:
    """8 of 40 give HTTP 500 for ever, and they come last, when nobody else is answered any more."""
    requests = [asked(f"{'bad' if i >= 32 else 'good'} {i}") for i in range(40)]

    def some_fail(body: Body, times: int) -> Answer:
        return Answer(status=500) if body["messages"][0]["content"].startswith("bad") else Answer("fine")

    with ChatServer(some_fail) as server:
        model = model_at(server, concurrency=8)
        outcomes = complete_all(model, requests)
        assert len(server.bodies) == 32 + 8 * OWN_ATTEMPTS
    assert not model.breaker.open, "nobody pauses for the failures of a few"
    assert [isinstance(outcome, Reply) for outcome in outcomes] == [True] * 32 + [False] * 8
    assert {outcome.kind for outcome in outcomes if isinstance(outcome, Failure)} == {"unavailable"}


def test_of_an_endpoint_that_has_answered_no_number_of_failing_prompts_ends_the_run() -> None:
    """An evaluation that goes on asks only what failed before: all of it may fail again."""
    with ChatServer(lambda body, times: Answer(status=500)) as server:
        model = model_at(server, concurrency=8)
        has_answered(model)
        outcomes = complete_all(model, [asked(f"bad {i}") for i in range(60)])
        assert len(server.bodies) < 60 * OWN_ATTEMPTS, "when all fail, each is tried less often"
    assert {outcome.kind for outcome in outcomes if isinstance(outcome, Failure)} == {"unavailable"}
    assert len(outcomes) == 60


def test_many_refusals_in_a_row_are_passing_failures_where_the_endpoint_has_answered() -> None:
    with ChatServer(lambda body, times: Answer(status=400)) as server:
        model = model_at(server, concurrency=2)
        has_answered(model)
        outcomes = complete_all(model, [asked(f"bad {i}") for i in range(40)])
    kinds = [outcome.kind for outcome in outcomes if isinstance(outcome, Failure)]
    assert kinds.count("rejected") == model.breaker.most_in_a_row - 1
    assert kinds.count("unavailable") == 40 - kinds.count("rejected")


@pytest.mark.parametrize("key", ["x", "EMPTY", "sk-or-v1-0123"])
def test_a_key_is_hidden_and_a_short_one_mangles_no_word(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    words = f"prompt of EMPTYNESS rejected by policy xyz, key {key}"
    with ChatServer(lambda body, times: Answer(status=400, error={"message": words})) as server:
        (outcome,) = complete_all(model_at(server), [asked("hi")])
    assert isinstance(outcome, Failure)
    assert outcome.message == "HTTP 400: prompt of EMPTYNESS rejected by policy xyz, key [key]"


def test_a_storm_of_429_costs_time_and_no_request() -> None:
    """Only two calls at once are let in: eight at once would each be refused more often than it has attempts."""
    running = 0
    lock = threading.Lock()

    def two_at_once(body: Body, times: int) -> Answer:
        nonlocal running
        with lock:
            running += 1
            full = running > 2
        try:
            time.sleep(0.01)
            return Answer(status=429) if full or times <= 9 else Answer("fine")
        finally:
            with lock:
                running -= 1

    with ChatServer(two_at_once) as server:
        breaker = Breaker(threshold=10_000, sleep=lambda s: time.sleep(min(s, 0.002)))
        outcomes = complete_all(model_at(server, breaker=breaker, concurrency=8), [asked(str(i)) for i in range(12)])
    assert all(isinstance(outcome, Reply) for outcome in outcomes)


def test_a_burst_of_refusals_halves_the_calls_at_once_and_answers_bring_them_back() -> None:
    slots = Slots(16)
    for _ in range(5):
        slots.too_many(100.0)
    assert slots.allowed == 8
    slots.too_many(102.0)
    assert slots.allowed == 4
    for _ in range(200):
        slots.answered()
    assert slots.allowed == 16


def test_when_one_is_told_to_wait_all_wait() -> None:
    pauses: list[float] = []
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        pauses.append(seconds)

    breaker = Breaker(clock=lambda: now, sleep=sleep)
    breaker.hold(7.0)
    breaker.wait()
    assert now >= 7.0


def test_an_error_inside_http_200_is_retried_and_its_words_are_kept() -> None:
    error = json.dumps({"error": {"message": "rate limited upstream", "code": 429}}).encode()
    with ChatServer(lambda body, times: Answer(raw=error) if times < 3 else Answer("fine")) as server:
        assert complete_all(model_at(server), [asked("x")])[0].text == "fine"
        assert len(server.bodies) == 3
    rejected = json.dumps({"error": {"message": "no such dialect", "code": 400}}).encode()
    with ChatServer(lambda body, times: Answer(raw=rejected)) as server:
        (outcome,) = complete_all(model_at(server), [asked("x")])
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.maybe_billed) == ("rejected", False)
    assert "no such dialect" in outcome.message


def test_a_page_in_the_place_of_every_reply_ends_the_run_with_its_first_words() -> None:
    page = b"<html><body>Please log in to the proxy</body></html>"
    with ChatServer(lambda body, times: Answer(raw=page)) as server:
        with pytest.raises(EndpointError, match=r"Please log in to the proxy.*run the same command again"):
            complete_all(model_at(server, concurrency=2), [asked(str(i)) for i in range(60)])
        assert len(server.bodies) < 20


def test_a_refused_payment_ends_the_run_with_the_servers_words(capsys: pytest.CaptureFixture[str]) -> None:
    unpaid = {"message": "Insufficient Balance", "code": "invalid_request_error"}
    with ChatServer(lambda body, times: Answer(status=402, error=unpaid)) as server:
        with pytest.raises(EndpointError, match=r"402.*Insufficient Balance"):
            complete_all(model_at(server, concurrency=2), [asked(str(i)) for i in range(60)])
        assert len(server.bodies) <= 3
    blip = {"message": "", "code": None}  # nothing but the status, twice: a proxy's whim
    with ChatServer(lambda body, times: Answer(status=402, error=blip) if times < 3 else Answer("fine")) as server:
        assert complete_all(model_at(server), [asked("x")])[0].text == "fine"


def test_unknown_words_are_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    def odd(body: Body, times: int) -> Answer:
        bad = body["messages"][0]["content"].startswith("odd")
        return Answer(status=400, error={"message": "gizmo 7 out of cheese"}) if bad else Answer("fine")

    with ChatServer(odd) as server:
        outcomes = complete_all(model_at(server), [asked(f"{'odd' if i % 2 else 'even'} {i}") for i in range(10)])
    assert [outcome.kind for outcome in outcomes if isinstance(outcome, Failure)] == ["rejected"] * 5
    assert capsys.readouterr().err.count("out of cheese") == 1


def test_the_time_limit_is_for_the_whole_reply() -> None:
    """A server that sends a byte of the body now and then."""

    class Trickle(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data = json.dumps(payload(body, Answer("late"))).encode()
            kind = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            head = f"{kind}Content-Length: {len(data) + 60}\r\n\r\n".encode()
            try:
                self.wfile.write(head)
                for byte in b" " * 60:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            except OSError:
                pass  # cut off, as it should be

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Trickle)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    before = threading.active_count()
    model = OpenAICompatibleModel("m", f"http://127.0.0.1:{server.server_address[1]}/v1", timeout_s=0.2)
    model.retry_unanswered = False
    start = time.monotonic()
    (outcome,) = complete_all(model, [asked("x")])
    taken = time.monotonic() - start
    server.shutdown()
    server.server_close()
    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.maybe_billed) == ("unavailable", True)
    assert 0.19 < taken < 0.6
    assert threading.active_count() <= before + 1, "only the server's own thread"
    assert socket.getdefaulttimeout() is None


def test_a_limit_that_no_reply_keeps_ends_the_run_and_names_it() -> None:
    """Each call may be charged, so a run does not go on for a quarter of an hour."""
    with ChatServer(lambda body, times: Answer("late", delay_s=0.5)) as server:
        with pytest.raises(
            EndpointError, match=r"no whole reply within 0\.1 s.*--timeout_s.*run the same command again"
        ):
            complete_all(model_at(server, concurrency=4, timeout_s=0.1), [asked(str(i)) for i in range(60)])
        assert len(server.bodies) <= 12 + 4


def test_a_lone_request_that_waits_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"message": "slow down"}
    with ChatServer(lambda body, times: Answer(status=429, error=error) if times < 6 else Answer("fine")) as server:
        assert complete_all(model_at(server, concurrency=1), [asked("x")])[0].text == "fine"
    assert capsys.readouterr().err.count("not answered yet (HTTP 429: slow down); trying again") == 1


@pytest.mark.parametrize("key", ["x", "none", "a-long-secret-key"])
def test_a_key_is_hidden_and_a_placeholder_leaves_the_words_whole(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    error = {"message": f"index exceeded, nonetheless; key={key}"}
    with ChatServer(lambda body, times: Answer(status=400, error=error)) as server:
        (outcome,) = complete_all(model_at(server), [asked("x")])
    assert isinstance(outcome, Failure)
    assert outcome.message == "HTTP 400: index exceeded, nonetheless; key=[key]"


def test_what_is_refused_for_its_length_names_what_helps() -> None:
    error = {"message": "the request exceeds the available context size", "code": 400}
    with ChatServer(lambda body, times: Answer(status=400, error=error)) as server:
        (outcome,) = complete_all(model_at(server), [asked("x")])
    assert isinstance(outcome, Failure)
    assert outcome.kind == "too_long"
    assert "available context size; raise the server's context" in outcome.message
    assert "--max_length_tokens" in outcome.message
