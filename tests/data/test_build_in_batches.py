"""`--executor batch`: the rows of plain calls, at half the price; killed at any moment, a build carries on."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from longalign.config import DataSettings
from longalign.data.build import build
from longalign.errors import ConfigError
from longalign.llm.ledger import Ledger
from tests.llm.batch_server import Batch, BatchServer
from tests.llm.chat_server import Answer, Body, ChatServer, stand_in
from tests.makers.builds import build_command, start

ROWS = 12
PRICE = (1.0, 2.0)


def settings_for(corpus: Path, tokenizer: Path, server: ChatServer, **changes: object) -> DataSettings:
    given: dict[str, object] = {
        "documents": (str(corpus),),
        "llm": server.spec,
        "rows": ROWS,
        "tokenizer": str(tokenizer),
        "min_length_tokens": 100,
        "max_length_tokens": 8192,
        "price_usd_per_million": PRICE,
        "batch_poll_s": 0.01,
        **changes,
    }
    return DataSettings.model_validate(given)


@pytest.fixture
def plain(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> Path:
    """Rows of plain calls."""
    with BatchServer() as server:
        build(settings_for(corpus_dir, tokenizer_dir, server), tmp_path / "plain.jsonl")
        assert not server.batches
    return tmp_path / "plain.jsonl"


@pytest.mark.parametrize("batch_requests", [2000, 3])
def test_batches_give_the_rows_of_plain_calls_at_half_the_price(
    batch_requests: int, corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path, plain: Path
) -> None:
    with BatchServer() as server:
        settings = settings_for(
            corpus_dir, tokenizer_dir, server, executor="batch", batch_requests=batch_requests, concurrency=3
        )
        report = build(settings, tmp_path / "rows.jsonl")
        assert not server.bodies, "no plain call"
        assert max(server.sizes) <= batch_requests
        assert set(server.answered.values()) == {1}
    assert (tmp_path / "rows.jsonl").read_bytes() == plain.read_bytes()
    ledgers = [Ledger(path.with_suffix(".ledger.sqlite")) for path in (plain, tmp_path / "rows.jsonl")]
    assert ledgers[1].spent_usd() == pytest.approx(0.5 * ledgers[0].spent_usd())
    assert ledgers[1].totals().calls == ledgers[0].totals().calls == report["spend"]["calls"]
    assert not ledgers[1].batches.batches(server.model)
    for ledger in ledgers:
        ledger.close()


def command(corpus: Path, tokenizer: Path, server: ChatServer, out: Path, **more: str) -> list[str]:
    options = {
        "--documents": str(corpus),
        "--llm": server.spec,
        "--rows": str(ROWS),
        "--out": str(out),
        "--tokenizer": str(tokenizer),
        "--min_length_tokens": "100",
        "--max_length_tokens": "8192",
        "--price_usd_per_million": json.dumps(PRICE),
        "--executor": "batch",
        "--batch_poll_s": "0.05",
        **{f"--{name}": value for name, value in more.items()},
    }
    return build_command(options)


@pytest.mark.parametrize(
    "steps",
    [
        ("created",),
        pytest.param(
            ("upload", "uploaded", "create", "created", "poll", "content", "after content", "created", "poll"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_kill_9_at_any_step_pays_no_request_twice_and_changes_no_byte(
    steps: tuple[str, ...], corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path, plain: Path
) -> None:
    """Before or after the server has done a step, and while the process reads what came."""
    due = list(steps)
    process: subprocess.Popen[str]

    def kill(step: str, number: int) -> None:
        if not due or step != due[0].removeprefix("after "):
            return
        late = due.pop(0).startswith("after ")
        if late:
            threading.Timer(0.02, os.killpg, (process.pid, signal.SIGKILL)).start()
        else:
            os.killpg(process.pid, signal.SIGKILL)

    out = tmp_path / "killed.jsonl"
    with BatchServer(on=kill) as server:
        for _ in range(len(steps) + 1):
            process = start(command(corpus_dir, tokenizer_dir, server, out, batch_requests="5", give_up_after="0"))
            _, errors = process.communicate(timeout=120)
            if process.returncode != -signal.SIGKILL:
                break
        assert process.returncode == 0, errors
        assert not due, "killed at every step"
        assert set(server.answered.values()) == {1}
        assert not server.bodies
    assert out.read_bytes() == plain.read_bytes()
    assert (tmp_path / "killed.rejected.jsonl").read_bytes() == (tmp_path / "plain.rejected.jsonl").read_bytes()
    ledger, calls = Ledger(tmp_path / "killed.ledger.sqlite"), Ledger(tmp_path / "plain.ledger.sqlite")
    assert ledger.totals().lost_calls == 0
    assert ledger.spent_usd() == pytest.approx(0.5 * calls.spent_usd())
    ledger.close()
    calls.close()


@pytest.mark.slow
def test_ctrl_c_says_that_the_batch_goes_on_and_the_same_command_carries_on(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path, plain: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    with BatchServer(polls=1_000_000) as server:
        process = start(command(corpus_dir, tokenizer_dir, server, out))
        while server.steps.get("poll", 0) < 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert "1 batch will go on at http://127.0.0.1" in errors
        assert errors.splitlines()[-1] == "interrupted; the same command carries on"
        server.polls = 1
        process = start(command(corpus_dir, tokenizer_dir, server, out))
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "carrying on with 1 batch at http://127.0.0.1" in errors
        assert set(server.answered.values()) == {1}
    assert out.read_bytes() == plain.read_bytes()


def test_faults_in_batches_lead_to_the_rows_that_they_lead_to_in_plain_calls(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    def faulty(body: Body, times: int) -> Answer:
        number = len(body["messages"][0]["content"]) % 7
        if number == 0:
            return Answer(status=400, error={"message": "maximum context length is 10 tokens"})
        if number == 1:
            return Answer("half a", finish_reason="length")
        if number == 2 and times == 1:
            return Answer(status=429, headers={"retry-after-ms": "1"})
        return stand_in(body, times)

    def expire(batch: Batch) -> None:
        if batch.id in ("batch-0", "batch-3"):
            batch.fate, batch.share = "expired", 0.5

    for name, options in (("plain", {}), ("batch", {"executor": "batch"})):
        with BatchServer(faulty, decide=expire) as server:
            build(settings_for(corpus_dir, tokenizer_dir, server, **options), tmp_path / f"{name}.jsonl")
    for ending in (".jsonl", ".rejected.jsonl"):
        assert (tmp_path / f"batch{ending}").read_bytes() == (tmp_path / f"plain{ending}").read_bytes()


def test_a_cap_holds_over_batches_and_raising_it_goes_on(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path, plain: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    full = Ledger(tmp_path / "plain.ledger.sqlite")
    cost_usd = 0.5 * full.spent_usd()
    full.close()
    with BatchServer() as server:
        settings = settings_for(corpus_dir, tokenizer_dir, server, executor="batch", max_cost_usd=0.6 * cost_usd)
        report = build(settings, out)
        assert report["rows"] < ROWS
        assert report["spend"]["spent_usd"] <= 0.6 * cost_usd
        build(settings.model_copy(update={"max_cost_usd": None}), out)
        assert set(server.answered.values()) == {1}
    assert out.read_bytes() == plain.read_bytes()


def test_the_plan_counts_batches_at_their_price(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    with BatchServer() as server:
        plans = [
            build(settings_for(corpus_dir, tokenizer_dir, server, **options), tmp_path / "rows.jsonl", plan_only=True)
            for options in ({}, {"executor": "batch"}, {"executor": "batch", "batch_price_share": 0.25})
        ]
    costs = [plan["plan"]["cost_usd"] for plan in plans]
    assert costs == [
        pytest.approx(costs[0]),
        pytest.approx(costs[0] / 2, abs=1e-4),
        pytest.approx(costs[0] / 4, abs=1e-4),
    ]


def test_a_checker_has_an_executor_of_its_own(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    with BatchServer() as writer, ChatServer() as checker:
        checker.model = "checker"
        settings = settings_for(
            corpus_dir, tokenizer_dir, writer, executor="batch", checker=checker.spec, checker_executor="local", rows=4
        )
        assert build(settings, tmp_path / "rows.jsonl")["rows"] == 4
        assert writer.batches
        assert not writer.bodies
        assert checker.bodies


def test_a_model_without_batch_api_is_refused_before_documents_are_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="executor batch: no batch API is known of `offline`"):
        build(DataSettings(documents=(str(tmp_path / "none"),), executor="batch"), tmp_path / "rows.jsonl")
