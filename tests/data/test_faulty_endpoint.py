"""Builds from the command line over an endpoint with faults: the rows are those of a calm day, everything is counted.

Faults that pass (kills, storms of 429, errors inside HTTP 200, an empty account) cost time. Faults that stay (prompts
that always fail, thoughts that never end) cost their own documents only.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longalign.base.files import fingerprint, read_jsonl
from longalign.llm.prompt import read_request
from tests.llm.chat_server import Answer, Behaviour, Body, ChatServer, stand_in
from tests.makers.builds import build_command, start
from tests.makers.text import prose

pytestmark = pytest.mark.slow

CONCURRENCY = 6
DOCUMENTS = 30
ALL = 2 * DOCUMENTS
"""More rows than one pass gives, so that every document is tried."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    for number in range(DOCUMENTS):
        (folder / f"{number:02}.txt").write_text(prose(500 + number, 10 + 2 * number))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "broken.docx").write_text("no archive")
    return folder


def command(corpus: Path, tokenizer: Path, server: ChatServer, out: Path, *, preset: str, rows: int) -> list[str]:
    options = {
        "--documents": corpus,
        "--llm": server.spec,
        "--preset": preset,
        "--rows": rows,
        "--out": out / "rows.jsonl",
        "--tokenizer": tokenizer,
        "--min_length_tokens": 100,
        "--max_length_tokens": 8192,
        "--max_rows_per_document": 1,
        "--concurrency": CONCURRENCY,
        "--price_usd_per_million": "[1, 2]",
    }
    return build_command(options)


def run(arguments: list[str]) -> tuple[int, str]:
    process = start(arguments)
    try:
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert "Traceback" not in errors
    return process.returncode, errors


@contextmanager
def endpoint(behaviour: Behaviour) -> Iterator[tuple[ChatServer, Counter[str]]]:
    """A server, and how often it gave each request its answer (and not an error)."""
    answered: Counter[str] = Counter()

    def counting(body: Body, times: int) -> Answer:
        reply = behaviour(body, times)
        answered[fingerprint(body)] += reply.status == 200 and reply.raw is None
        return reply

    with ChatServer(counting) as server:
        yield server, answered


Calm = Callable[[str, int], tuple[Path, int]]


@pytest.fixture(scope="module")
def calm(corpus: Path, tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """(preset, rows) -> folder of a build that nothing disturbs, and its calls; each is built once."""
    built: dict[tuple[str, int], tuple[Path, int]] = {}

    def folder(preset: str, rows: int) -> tuple[Path, int]:
        if (preset, rows) not in built:
            out = tmp_path_factory.mktemp("calm")
            with endpoint(stand_in) as (server, answered):
                status, errors = run(command(corpus, tokenizer_dir, server, out, preset=preset, rows=rows))
            assert status == 0, errors
            accounted(out)
            built[preset, rows] = out, answered.total()
        return built[preset, rows]

    return folder


def accounted(out: Path) -> dict[str, Any]:
    """The report, after a look that every candidate, document and file is accepted, rejected or left out once."""
    report: dict[str, Any] = json.loads((out / "rows.report.json").read_text())
    rows = read_jsonl(out / "rows.jsonl")
    rejected = [line for line in read_jsonl(out / "rows.rejected.jsonl") if line["kind"] == "row"]
    left_out = Counter(line["reason"] for line in read_jsonl(out / "rows.documents.jsonl"))
    found = report["corpus"]
    assert len(rows) == report["rows"]
    assert Counter(line["reason"] for line in rejected) == report["rejected_by_reason"]
    assert report["tried"] == len(rows) + len(rejected)
    assert left_out == Counter(found["skipped_by_reason"]) + Counter(found["dropped_by_reason"])
    assert left_out.total() + found["usable"] == DOCUMENTS + 2
    documents = [row["document"] for row in rows] + [line["document"] for line in rejected]
    assert len(set(documents)) == len(documents)  # one pass: a candidate is a document
    return report


def same_rows(out: Path, calm_out: Path) -> None:
    for name in ("rows.jsonl", "rows.rejected.jsonl", "rows.documents.jsonl"):
        assert (out / name).read_bytes() == (calm_out / name).read_bytes(), name


def of_document(body: Body, kinds: int) -> int:
    """A number below `kinds` that is the same for all calls about a document."""
    document = read_request(body["messages"][0]["content"]).document
    return hashlib.sha256(document.encode()).digest()[0] % kinds


def document_ids(server: ChatServer, chosen: Callable[[Body], bool]) -> set[str]:
    texts = {read_request(body["messages"][0]["content"]).document for body in server.bodies if chosen(body)}
    return {hashlib.sha256(text.encode()).hexdigest() for text in texts}


def passing_faults(body: Body, times: int) -> Answer:
    """A third of the requests fail at first: 429, 503, or an error inside HTTP 200."""
    kind = int(fingerprint(body)[:4], 16) % 9
    if times == 1 and kind < 3:
        inside = json.dumps({"error": {"message": "Provider returned error", "code": 429}}).encode()
        return (Answer(status=429), Answer(status=503), Answer(raw=inside))[kind]
    return replace(stand_in(body, times), delay_s=0.02 * kind)


def test_kills_at_random_moments_amid_passing_faults(
    corpus: Path, tokenizer_dir: Path, calm: Calm, tmp_path: Path
) -> None:
    calm_out, calls = calm("best", 15)
    moments = random.Random(0)
    kills = 0
    with endpoint(passing_faults) as (server, answered):
        again = command(corpus, tokenizer_dir, server, tmp_path, preset="best", rows=15)
        for share in sorted(moments.random() for _ in range(4)):
            process = start(again)
            while answered.total() < share * calls and process.poll() is None:
                time.sleep(0.002)
            time.sleep(moments.random() * 0.1)
            if process.poll() is None:
                kills += 1
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        status, errors = run(again)
        assert status == 0, errors
    assert kills >= 2
    assert len(+answered) == calls
    assert answered.total() - calls <= kills * CONCURRENCY  # only what was under way when the process died
    same_rows(tmp_path, calm_out)
    spend = accounted(tmp_path)["spend"]
    assert spend["calls"] == calls
    assert spend["lost_calls"] >= answered.total() - calls  # nothing that may have been charged is forgotten


def test_a_storm_of_429_with_retry_after(corpus: Path, tokenizer_dir: Path, calm: Calm, tmp_path: Path) -> None:
    calm_out, calls = calm("best", 15)
    first: list[float] = []
    refused = 0

    def storm(body: Body, times: int) -> Answer:
        """Nobody for two seconds; after that a gust now and then."""
        nonlocal refused
        first.append(time.monotonic())
        if first[-1] - first[0] < 2 or (times == 1 and len(first) % 10 < 2):
            refused += 1
            return Answer(status=429, headers={"Retry-After": "0.5"}, error={"message": "slow down"})
        return stand_in(body, times)

    with endpoint(storm) as (server, answered):
        status, errors = run(command(corpus, tokenizer_dir, server, tmp_path, preset="best", rows=15))
    assert status == 0, errors
    assert CONCURRENCY < refused < 40 * CONCURRENCY  # waited, and did not hammer
    assert set((+answered).values()) == {1}
    assert answered.total() == calls
    same_rows(tmp_path, calm_out)
    accounted(tmp_path)


def test_prompts_that_always_give_500_cost_their_documents_only(
    corpus: Path, tokenizer_dir: Path, calm: Calm, tmp_path: Path
) -> None:
    calm_out, _ = calm("paper", ALL)

    def bad(body: Body) -> bool:
        return of_document(body, 5) == 0

    with endpoint(lambda body, times: Answer(status=500) if bad(body) else stand_in(body, times)) as (server, answered):
        status, errors = run(command(corpus, tokenizer_dir, server, tmp_path, preset="paper", rows=ALL))
        assert status == 0, errors
        lost = document_ids(server, bad)
    assert 3 <= len(lost) <= DOCUMENTS // 3
    assert set((+answered).values()) == {1}
    expected = [row for row in read_jsonl(calm_out / "rows.jsonl") if row["document"] not in lost]
    assert read_jsonl(tmp_path / "rows.jsonl") == expected
    assert accounted(tmp_path)["rejected_by_reason"]["questions: unavailable"] == len(lost)


SPELLINGS: list[Callable[[str], Answer]] = [
    lambda text: Answer(f"<think>\nThe user asks.\n</think>\n\n{text}"),
    lambda text: Answer(f"The user asks. Let me see.\n</think>\n\n{text}"),
    lambda text: Answer(f"<thinking>\nThe user asks.\n</thinking>\n{text}"),
    lambda text: Answer(f"[THINK]The user asks.[/THINK]{text}"),
    lambda text: Answer(
        f"<|channel|>analysis<|message|>The user asks.<|end|><|start|>assistant<|channel|>final<|message|>{text}"
    ),
    lambda text: Answer(text, message={"reasoning_content": "The user asks."}),
    lambda text: Answer(
        message={"content": [{"type": "thinking", "thinking": "The user asks."}, {"type": "text", "text": text}]}
    ),
    lambda text: Answer(f"{text}<|im_end|>"),
    lambda text: Answer(f"<think>\nThe user asks. {text}"),  # never closed
]
NEVER_CLOSED = len(SPELLINGS) - 1


def test_thoughts_in_any_spelling_change_no_row(corpus: Path, tokenizer_dir: Path, calm: Calm, tmp_path: Path) -> None:
    calm_out, _ = calm("paper", ALL)

    def thinking(body: Body, times: int) -> Answer:
        return SPELLINGS[of_document(body, len(SPELLINGS))](stand_in(body, times).text)

    with endpoint(thinking) as (server, answered):
        status, errors = run(command(corpus, tokenizer_dir, server, tmp_path, preset="paper", rows=ALL))
        assert status == 0, errors
        met = {of_document(body, len(SPELLINGS)) for body in server.bodies}
        lost = document_ids(server, lambda body: of_document(body, len(SPELLINGS)) == NEVER_CLOSED)
    assert met == set(range(len(SPELLINGS)))
    assert set(answered.values()) == {1}
    expected = [row for row in read_jsonl(calm_out / "rows.jsonl") if row["document"] not in lost]
    assert read_jsonl(tmp_path / "rows.jsonl") == expected
    assert accounted(tmp_path)["rejected_by_reason"]["questions: only_thinking"] == len(lost)


def test_an_empty_account_ends_the_run_and_the_same_command_finishes_it(
    corpus: Path, tokenizer_dir: Path, calm: Calm, tmp_path: Path
) -> None:
    calm_out, calls = calm("best", 15)
    topped_up = False
    paid = 0

    def account(body: Body, times: int) -> Answer:
        nonlocal paid
        paid += 1
        if paid > 20 and not topped_up:
            return Answer(status=402, error={"message": "Insufficient Balance", "code": "invalid_request_error"})
        return stand_in(body, times)

    with endpoint(account) as (server, answered):
        again = command(corpus, tokenizer_dir, server, tmp_path, preset="best", rows=15)
        status, errors = run(again)
        assert status == 2
        assert "Insufficient Balance" in errors.splitlines()[-1]
        assert "run the same command again" in errors.splitlines()[-1]
        assert paid <= 20 + CONCURRENCY
        assert not (tmp_path / "rows.jsonl").exists()
        topped_up = True
        status, errors = run(again)
        assert status == 0, errors
    assert set((+answered).values()) == {1}
    assert answered.total() == calls
    same_rows(tmp_path, calm_out)
    accounted(tmp_path)
