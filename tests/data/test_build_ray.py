"""`data build --executor ray`: the file of a local build, byte for byte, also over kills of the build and of copies."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from longalign.config import DataSettings
from longalign.data.build import build
from longalign.llm.ledger import Ledger
from tests.llm.chat_server import ChatServer
from tests.makers.builds import build_command
from tests.makers.scripted_model import save_scripted_model
from tests.makers.text import prose

ROWS = 24
FILES = ("rows", "rejected", "documents")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents, and a model that writes questions, answers and verdicts."""
    folder = tmp_path_factory.mktemp("place")
    save_scripted_model(folder / "model")
    (folder / "documents").mkdir()
    for number in range(40):
        (folder / "documents" / f"notes_{number:02}.txt").write_text(prose(number, 8 + 3 * number))
    for name, text in (("twice.txt", prose(3, 17)), ("none.xyz", ""), ("short.txt", "too short")):
        (folder / "documents" / name).write_text(text)
    (folder / "documents" / "broken.epub").write_text("no zip")
    return folder


def arguments(place: Path, out: Path, *more: str) -> list[str]:
    options = {
        "--documents": str(place / "documents"),
        "--llm": str(place / "model"),
        "--rows": str(ROWS),
        "--out": str(out),
        "--tokenizer": str(place / "model"),
        "--preset": "paper",
        "--min_support": "0.01",
        "--min_length_tokens": "100",
        "--max_length_tokens": "2048",
    }
    return build_command(options, *more)


TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}


def environment() -> dict[str, str]:
    """With the token of the cluster below."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **TOKEN}


def run(place: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments(place, out, *more), capture_output=True, text=True, env=environment(), timeout=300)


@pytest.fixture(scope="module")
def local(place: Path) -> dict[str, bytes]:
    """The files of a local build."""
    done = run(place, place / "local")
    assert done.returncode == 0, done.stderr
    return files_of(place / "local")


def files_of(out: Path) -> dict[str, bytes]:
    return {name: (out / f"rows{'' if name == 'rows' else f'.{name}'}.jsonl").read_bytes() for name in FILES}


@dataclass(frozen=True)
class Cluster:
    address: str
    pid: int
    """Of the process that all others are below."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of one node with four CPUs, which other programs started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = str(Path(sys.executable).with_name("ray"))
    head = [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=4", "--include-dashboard=false"]
    head += ["--node-ip-address=127.0.0.1", "--disable-usage-stats"]
    process = subprocess.Popen(head, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    for _ in range(300):
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    time.sleep(5)
    yield Cluster(f"127.0.0.1:{port}", process.pid)
    process.terminate()
    process.wait(30)


def children(pid: int) -> set[int]:
    """All processes below one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def calls_in(ledger: Path) -> int:
    if not ledger.exists():
        return 0
    with open_ledger(ledger) as opened:
        return opened.totals().calls


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    try:
        yield ledger
    finally:
        ledger.close()


def test_the_executor_restarts_nothing(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    def settings(executor: str) -> DataSettings:
        return DataSettings(
            documents=(str(corpus_dir),), tokenizer=str(tokenizer_dir), rows=3, min_length_tokens=100,
            executor=executor, ray_copies=7,
        )  # fmt: skip

    assert build(settings("local"), tmp_path / "out")["rows"] == 3
    start = time.monotonic()
    assert build(settings("ray"), tmp_path / "out")["rows"] == 3
    assert time.monotonic() - start < 3  # done: Ray is not even started
    assert not list((tmp_path / "out").glob("superseded/*"))


def test_without_ray_the_error_names_the_extra(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    options = ["--documents", str(corpus_dir), "--tokenizer", str(tokenizer_dir), "--executor", "ray"]
    code = "import sys; sys.modules['ray'] = None; from longalign.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "build", *options, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: executor ray needs the `ray` package: pip install 'longalign[ray]'\n"


@pytest.mark.slow
def test_ray_started_here_gives_the_local_file_prints_nothing_of_its_own_and_ends(
    place: Path, local: Mapping[str, bytes], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        arguments(place, tmp_path / "out", "--executor", "ray", "--ray_copies", "2", "--json"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    started: set[int] = set()
    while process.poll() is None:
        started |= children(process.pid)
        time.sleep(0.2)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(out)["rows"] == ROWS
    assert files_of(tmp_path / "out") == local
    known = r"Ray: started here, \d+ CPUs, 0 GPUs|documents: .*|calls: .*|data: .*"
    assert [line for line in errors.splitlines() if not re.fullmatch(known, line)] == []
    assert len(started) > 4
    deadline = time.monotonic() + 20
    while any(map(alive, started)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started if alive(pid)]


def kill_driver(process: subprocess.Popen[str], cluster: Cluster) -> None:
    process.kill()


def kill_copies(process: subprocess.Popen[str], cluster: Cluster) -> None:
    """Every copy of the model, once."""
    copies = [
        pid for pid in children(cluster.pid) if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Copy")
    ]
    assert copies
    for pid in copies:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_driver, kill_copies])
def test_kills_in_the_middle_change_no_byte_and_repeat_no_recorded_call(
    kill: Callable[[subprocess.Popen[str], Cluster], None],
    place: Path,
    local: Mapping[str, bytes],
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    there = ("--executor", "ray", "--ray_address", cluster.address, "--json")
    command = arguments(place, out, *there, "--ray_copies", "2")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    while calls_in(out / "rows.ledger.sqlite") < ROWS // 2 and process.poll() is None:
        time.sleep(0.05)
    assert process.poll() is None
    kill(process, cluster)
    _, errors = process.communicate(timeout=200)
    if kill is kill_driver:
        before = calls_in(out / "rows.ledger.sqlite")
        assert before < 2 * ROWS
        done = run(place, out, *there, "--ray_copies", "1")
        assert done.returncode == 0, done.stderr
    else:
        assert process.returncode == 0, errors
        assert "died and is started again" in errors
    assert files_of(out) == local
    assert calls_in(out / "rows.ledger.sqlite") == calls_in(place / "local" / "rows.ledger.sqlite")


@pytest.mark.slow
def test_writer_and_checker_share_the_cluster(place: Path, cluster: Cluster, tmp_path: Path) -> None:
    with_checker = ("--checker", str(place / "model"), "--check_answers", "true")
    expected = run(place, tmp_path / "local", *with_checker)
    assert expected.returncode == 0, expected.stderr
    there = ("--executor", "ray", "--ray_address", cluster.address)
    done = run(place, tmp_path / "ray", *with_checker, *there, "--ray_copies", "2", "--ray_checker_copies", "1")
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "ray") == files_of(tmp_path / "local")
    refused = run(place, tmp_path / "more", *with_checker, *there, "--ray_copies", "3")
    assert refused.returncode == 2
    last = refused.stderr.splitlines()[-1]
    assert re.match(r"error: executor ray: no place for 3 copies of \S+ and 3 of the other model .*room for 4; ", last)


@pytest.mark.slow
def test_an_endpoint_is_asked_from_this_process(place: Path, cluster: Cluster, tmp_path: Path) -> None:
    with ChatServer() as server:
        there = ("--executor", "ray", "--ray_address", cluster.address)
        done = run(place, tmp_path / "out", "--llm", server.spec, *there)
        assert done.returncode == 0, done.stderr
        assert sum(server.served.values()) >= ROWS
    assert f"Ray: {cluster.address}, 4 CPUs" in done.stderr


@pytest.mark.slow
def test_a_cluster_that_wants_a_token_says_how_to_give_it(place: Path, cluster: Cluster, tmp_path: Path) -> None:
    done = subprocess.run(
        arguments(place, tmp_path / "out", "--executor", "ray", "--ray_address", cluster.address),
        capture_output=True, text=True, env=environment() | {"RAY_AUTH_TOKEN": "wrong"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no cluster can be joined" in done.stderr.splitlines()[-1]
    assert "RAY_AUTH_TOKEN_PATH=FILE" in done.stderr.splitlines()[-1]
