"""Killed at any moment, a build carries on: nothing is paid twice, and the file is that of an uninterrupted build."""

import json
import os
import signal
import sqlite3
import time
import zlib
from itertools import count
from pathlib import Path

import pytest

from longalign.config import DataSettings
from longalign.data.build import build
from longalign.llm.ledger import Ledger
from tests.llm.chat_server import Answer, Body, ChatServer, stand_in
from tests.makers.builds import build_command, start

CONCURRENCY = 3
ROWS = 24


def command(corpus: Path, tokenizer: Path, server: ChatServer, out: Path) -> list[str]:
    options = {
        "--documents": str(corpus),
        "--llm": server.spec,
        "--rows": str(ROWS),
        "--out": str(out),
        "--tokenizer": str(tokenizer),
        "--min_length_tokens": "100",
        "--max_length_tokens": "8192",
        "--concurrency": str(CONCURRENCY),
    }
    return build_command(options, "--price_usd_per_million", "[1, 2]", "--json")


def slowly(body: Body, times: int) -> Answer:
    """Some calls take ten times as long as others, so outcomes come in another order than they count."""
    reply = stand_in(body, times)
    reply.delay_s = 0.1 if len(body["messages"][0]["content"]) % 7 == 0 else 0.01
    return reply


@pytest.mark.parametrize("shares", [(0.5,), pytest.param((0.05, 0.3, 0.6, 0.95), marks=pytest.mark.slow)])
def test_kill_9_repeats_no_paid_call_and_changes_no_byte(
    shares: tuple[float, ...], corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    with ChatServer() as server:
        settings = DataSettings(
            documents=(str(corpus_dir),),
            llm=server.spec,
            rows=ROWS,
            tokenizer=str(tokenizer_dir),
            min_length_tokens=100,
            max_length_tokens=8192,
            price_usd_per_million=(1, 2),
        )
        assert build(settings, tmp_path / "whole.jsonl")["rows"] == ROWS
        calls = sum(server.served.values())

    out = tmp_path / "killed.jsonl"
    kills = 0
    with ChatServer(slowly) as server:
        for share in shares:
            process = start(command(corpus_dir, tokenizer_dir, server, out))
            while sum(server.served.values()) < share * calls and process.poll() is None:
                time.sleep(0.002)
            if process.poll() is None:
                kills += 1
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        last = start(command(corpus_dir, tokenizer_dir, server, out))
        text, errors = last.communicate(timeout=120)
        assert last.returncode == 0, errors
        repeated = sum(times - 1 for times in server.served.values())
        assert kills >= 1
        assert len(server.served) == calls
        assert repeated <= kills * CONCURRENCY  # only what was under way when the process died
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert (tmp_path / "killed.rejected.jsonl").read_bytes() == (tmp_path / "whole.rejected.jsonl").read_bytes()
    spend = json.loads(text)["spend"]
    assert spend["calls"] == calls
    assert spend["lost_calls"] >= repeated
    assert spend["spent_usd"] >= Ledger(tmp_path / "whole.ledger.sqlite").spent_usd()
    assert not list(tmp_path.glob(".*jsonl*"))


@pytest.mark.slow
@pytest.mark.slow
def test_ctrl_c_ends_in_seconds_with_one_line_however_slow_the_calls_and_the_same_command_carries_on(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    delay_s, numbers = 60.0, count()
    with ChatServer() as server:

        def slow_after_some(body: Body, times: int) -> Answer:
            reply = stand_in(body, times)
            reply.delay_s = delay_s if next(numbers) >= 10 else 0.0
            return reply

        server.behaviour = slow_after_some
        arguments = [*command(corpus_dir, tokenizer_dir, server, out), "--concurrency", "64"]
        process = start(arguments)
        while server.running < 10 or sum(server.served.values()) < 10:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(1.0)  # the answered ones are in the ledger
        pressed = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        assert time.monotonic() - pressed < 10
        assert process.returncode == 130
        assert not stdout
        assert "Traceback" not in stderr
        assert stderr.splitlines()[-1] == "interrupted; the same command carries on"

        with sqlite3.connect(tmp_path / "rows.ledger.sqlite") as ledger:
            (paid,) = ledger.execute("SELECT COUNT(*) FROM replies").fetchone()
        assert paid == 10

        delay_s, asked = 0.0, sum(server.times.values())
        again = start(arguments)
        stdout, stderr = again.communicate(timeout=120)
        assert again.returncode == 0, stderr
        report = json.loads(stdout)
        assert report["rows"] == ROWS
        assert sum(server.times.values()) - asked == report["spend"]["calls"] - paid


def test_one_of_ten_requests_failing_with_http_500_costs_no_row_and_every_candidate_is_accounted_for(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    def sometimes(body: Body, times: int) -> Answer:
        number = zlib.crc32(json.dumps(body, sort_keys=True).encode()) + times
        return Answer(status=500) if number % 10 == 0 else stand_in(body, times)

    with ChatServer(sometimes) as server:
        done = start([*command(corpus_dir, tokenizer_dir, server, tmp_path / "rows.jsonl"), "--concurrency", "64"])
        stdout, stderr = done.communicate(timeout=120)
        assert done.returncode == 0, stderr
        report = json.loads(stdout)
    assert report["rows"] == ROWS == len((tmp_path / "rows.jsonl").read_text().splitlines())
    assert report["tried"] == report["rows"] + sum(report["rejected_by_reason"].values())


def test_two_builds_of_one_file_do_not_mix(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    def wait_a_moment(body: Body, times: int) -> Answer:
        reply = stand_in(body, times)
        reply.delay_s = 0.3
        return reply

    with ChatServer(wait_a_moment) as server:
        first = start(command(corpus_dir, tokenizer_dir, server, tmp_path / "rows.jsonl"))
        while not server.bodies and first.poll() is None:
            time.sleep(0.01)
        second = start(command(corpus_dir, tokenizer_dir, server, tmp_path / "rows.jsonl"))
        _, errors = second.communicate(timeout=60)
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
    assert second.returncode == 2
    assert "in use by" in errors


def test_a_dead_endpoint_ends_with_one_line_and_exit_code_2(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    server = ChatServer()
    server.server.server_close()
    process = start(command(corpus_dir, tokenizer_dir, server, tmp_path / "rows.jsonl"))
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert text == ""
    assert errors.splitlines()[-1].startswith("error: ")
    assert "cannot be reached" in errors.splitlines()[-1]


def test_a_finished_build_asks_again_what_a_changed_server_can_answer_and_nothing_else(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    """`--retry too_long` after the server's window was raised: the rows of a build that never met the small one."""
    small = True

    def window(body: Body, times: int) -> Answer:
        too_long = small and len(body["messages"][0]["content"]) % 3 == 0
        error = {"message": "the request exceeds the available context size"}
        return Answer(status=400, error=error) if too_long else stand_in(body, times)

    with ChatServer(window) as server:
        settings = DataSettings(
            documents=(str(corpus_dir),),
            llm=server.spec,
            rows=6,
            tokenizer=str(tokenizer_dir),
            min_length_tokens=100,
            max_length_tokens=8192,
        )
        first = build(settings, tmp_path / "rows.jsonl")
        assert first["rejected"] > 0
        small = False
        before = {key: count for key, count in server.served.items() if count}
        retry = settings.model_copy(update={"retry": ("too_long",)})
        build(retry, tmp_path / "rows.jsonl")
        assert all(server.served[key] == count for key, count in before.items()), "nothing is paid twice"
        build(settings, tmp_path / "whole.jsonl")
        asked = sum(server.times.values())
        build(retry, tmp_path / "rows.jsonl")
        assert sum(server.times.values()) == asked, "nothing is left to ask again"
    assert (tmp_path / "rows.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
