"""Killed at any step, with a torn checkpoint or a full disk, a run ends with bitwise the same weights."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from longalign.base.files import read_jsonl
from longalign.config import LoopSettings
from longalign.core.model_shape import SequenceCost
from longalign.errors import RunError
from longalign.train import checkpoint
from longalign.train.parallel.placement import place
from longalign.train.run_plan import step_plan
from tests.train.runs import (
    DOUBLE,
    SETTINGS,
    STEPS,
    StoppedError,
    in_process,
    kill_at,
    on_ranks,
    run,
    stop_at,
    tiny_store,
)

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert in_process(run, folder) == 0
    return folder


def result(folder: Path) -> tuple[bytes, list[tuple[int, float, float]]]:
    """Every bit of the weights, and what was measured."""
    rows = [r for r in read_jsonl(folder / "metrics.jsonl") if "loss" in r]
    return (folder / "final.safetensors").read_bytes(), [(r["step"], r["loss"], r["learning_rate"]) for r in rows]


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


def rows_of_steps(folder: Path, *, count: int) -> dict[int, set[int]]:
    """Which rows all ranks together ran in each step, the last time they ran it."""
    found: dict[int, set[int]] = {}
    for rank in range(count):
        mine = {row["step"]: set(row["rows"]) for row in read_jsonl(folder / f"rows-{rank}.jsonl")}
        for step, rows in mine.items():
            found.setdefault(step, set()).update(rows)
    return found


def stopped(folder: Path, settings: LoopSettings, step: int) -> None:
    with pytest.raises(StoppedError):
        run(folder, settings, stop_at(step))


@pytest.mark.slow
def test_other_ranks_and_sequence_parallel_groups_continue_the_same_run(tmp_path: Path) -> None:
    """Four ranks in pairs, then two that share each pack, then two apart, then one: as if nothing had happened."""
    assert in_process(run, tmp_path / "straight", DOUBLE) == 0
    out = tmp_path / "moved"
    for count, degree, step in ((4, 2, 4), (2, 2, 7), (2, 1, 9)):
        how = DOUBLE.model_copy(update={"parallel": "fsdp2", "sequence_parallel": degree})
        on_ranks(count, stopped, out, how, step)
    assert in_process(run, out, DOUBLE) == 0
    weights, expected = (load_file(folder / "final.safetensors") for folder in (out, tmp_path / "straight"))
    for name, wanted in expected.items():
        torch.testing.assert_close(weights[name], wanted, rtol=0, atol=1e-10, msg=name)
    order, wanted_order = rows_of_steps(out, count=4), rows_of_steps(tmp_path / "straight", count=1)
    assert order == wanted_order
    assert [step for step, _, _ in result(out)[1]] == list(range(1, STEPS + 1))


def test_the_plan_is_laid_out_anew_when_only_the_groups_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of ranks in groups of another size: other data ranks, the same rows in the same steps."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    store = tiny_store(tmp_path)
    cost = SequenceCost(linear=1.0, quadratic=0.0)
    apart, paired = (SETTINGS.model_copy(update={"sequence_parallel": degree}) for degree in (1, 2))
    before = step_plan(store, apart, place(apart), tmp_path, cost=cost)
    after = step_plan(store, paired, place(paired), tmp_path, cost=cost, from_step=5)
    assert (before.data_ranks, after.data_ranks) == (4, 2)
    assert [len(step.ranks) for step in after] == [4] * 5 + [2] * (len(after) - 5)
    assert after.sampling_hash == before.sampling_hash
