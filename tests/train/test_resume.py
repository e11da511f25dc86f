"""Killed at any step, with a torn checkpoint or a full disk, a run ends with bitwise the same weights."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from longalign.errors import RunError
from longalign.run import read_jsonl
from longalign.train import checkpoint
from tests.train.runs import SETTINGS, STEPS, in_process, kill_at, run

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert in_process(run, folder) == 0
    return folder


def result(folder: Path) -> tuple[str, list[tuple[int, float, float]]]:
    rows = [r for r in read_jsonl(folder / "metrics.jsonl") if "loss" in r]
    return (folder / "hash").read_text(), [(r["step"], r["loss"], r["learning_rate"]) for r in rows]


def test_killed_at_several_steps_it_ends_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    for step in (1, 2, 5, 6, 8, STEPS):
        assert in_process(run, tmp_path, SETTINGS, kill_at(step)) == KILLED
    assert in_process(run, tmp_path) == 0
    assert result(tmp_path) == result(uninterrupted)
    assert len(result(tmp_path)[1]) == STEPS, "every step is in metrics.jsonl once"


def test_killed_while_writing_a_checkpoint_it_ends_the_same(uninterrupted: Path, tmp_path: Path) -> None:
    def dies_while_sealing() -> None:
        calls = []

        def seal(folder: Path) -> None:
            calls.append(folder)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            whole(folder)

        whole, checkpoint._seal = checkpoint._seal, seal
        run(tmp_path)

    assert in_process(dies_while_sealing) == KILLED
    kept = checkpoint.newest_good(tmp_path / "checkpoints")
    assert kept is not None
    assert checkpoint.step_of(kept) == 3
    assert in_process(run, tmp_path) == 0
    assert result(tmp_path) == result(uninterrupted)


def test_a_damaged_checkpoint_is_passed_over(uninterrupted: Path, tmp_path: Path) -> None:
    assert in_process(run, tmp_path, SETTINGS, kill_at(8)) == KILLED
    newest = checkpoint.all_checkpoints(tmp_path / "checkpoints")[0]
    with (newest / "weights.safetensors").open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    said: list[str] = []
    good = checkpoint.newest_good(tmp_path / "checkpoints", said.append)
    assert good is not None
    assert checkpoint.step_of(good) < checkpoint.step_of(newest)
    assert "weights.safetensors has other contents" in said[0]
    assert in_process(run, tmp_path) == 0
    assert result(tmp_path) == result(uninterrupted)


def test_a_full_disk_leaves_the_earlier_checkpoint(uninterrupted: Path, tmp_path: Path) -> None:
    def disk_fills_up() -> None:
        def at_step(step: int) -> None:
            if step == 5:  # no file may grow beyond this from here on
                resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))

        with pytest.raises(RunError, match=r"cannot be written .*earlier checkpoints are untouched"):
            run(tmp_path, at_step=at_step)
        os._exit(7)

    assert in_process(disk_fills_up) == 7
    assert [checkpoint.step_of(c) for c in checkpoint.all_checkpoints(tmp_path / "checkpoints")] == [3]
    assert not list((tmp_path / "checkpoints").glob(".*.tmp"))
    assert in_process(run, tmp_path) == 0
    assert result(tmp_path) == result(uninterrupted)


def test_checkpoints_hold_no_pickle(uninterrupted: Path) -> None:
    names = {p.suffix for c in checkpoint.all_checkpoints(uninterrupted / "checkpoints") for p in c.iterdir()}
    assert names == {".json", ".safetensors"}
