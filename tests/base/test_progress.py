"""Progress on stderr: plain lines where there is no terminal, a bar where there is one, a rate of this attempt only."""

import os
import pty
import re
import subprocess
import sys
import textwrap

import pytest

from longalign.base import progress
from longalign.base.progress import Progress, say


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless a test moves it."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_without_a_terminal_it_writes_a_line_now_and_then_and_one_at_the_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("needle", total=10, unit="question") as bar:
        for _ in range(8):
            clock[0] += 4.0
            bar.advance(note="32 tokens")
    assert lines(capsys) == [
        "needle: 3/10 (30%), 4.0 s/question, 28 s left 32 tokens",
        "needle: 6/10 (60%), 4.0 s/question, 16 s left 32 tokens",
        "needle: 8/10 (80%), 4.0 s/question in 32 s",
    ]


def test_what_an_earlier_attempt_did_counts_as_done_but_not_into_the_rate(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("train", total=100, unit="step", done=80) as bar:
        clock[0] += 5.0
        bar.advance(10)
    assert lines(capsys) == ["train: 90/100 (90%), 2.0 steps/s in 5 s"]


def test_there_is_no_rate_before_there_is_progress(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("train", total=100, unit="step", done=80) as bar:
        clock[0] += 60.0
        bar.advance(0)
    assert lines(capsys) == ["train: 80/100 (80%)"]


def test_nothing_done_and_nothing_to_do_say_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("data", total=0, unit="row"):
        pass
    assert lines(capsys) == []


def test_what_is_said_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("two\nlines")
    assert lines(capsys) == ["two", "lines"]


def test_on_a_terminal_it_draws_a_bar_with_rate_and_count() -> None:
    script = textwrap.dedent("""
        from longalign.base.progress import Progress
        with Progress("needle", total=4, unit="question") as bar:
            for _ in range(4):
                bar.advance(note="good")
    """)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, stdout=subprocess.PIPE, env=environment)
    os.close(theirs)
    shown = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    out, _ = process.communicate()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert process.returncode == 0
    assert out == b""
    assert "needle" in text
    assert "4/4" in text
    assert "questions/s" in text
    assert "good" in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux reports that the other end of a pseudo terminal is closed
        return b""
