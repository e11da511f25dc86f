"""Killed, then carried on with another way of running: the same weights, bit by bit where sums are added alike."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from longalign.base.decides import decides
from longalign.base.files import read_jsonl
from longalign.config import TrainSettings
from longalign.core.step_plan import load_plan
from longalign.errors import RunError
from longalign.train.sft import train
from tests.makers.rows import make_inputs
from tests.train.runs import in_process, on_ranks

KILLED = -signal.SIGKILL
STEPS = 24
TASKS = {"tasks": {"hash": {"task": "tests.train.hash_task:Hash"}}}
NEED_CUDA = {"liger_kernels"}


@dataclass(frozen=True)
class Change:
    """Settings until the kill, settings after it, ranks after it; `bitwise`: sums are added in the same order."""

    before: dict[str, Any]
    after: dict[str, Any]
    bitwise: bool = True
    ranks: int = 1


CHANGES = {
    "save_steps": Change({"save_steps": 2}, {"save_steps": 5}),
    "save_total_limit": Change({"save_total_limit": 2}, {"save_total_limit": 1}),
    "report_to": Change({}, {"report_to": ["tensorboard"]}),
    "eval_steps": Change({}, {"eval_steps": 5}),
    "eval_tasks": Change({}, {"eval_tasks": TASKS}),
    "eval_task_steps": Change({"eval_tasks": TASKS, "eval_task_steps": 3}, {"eval_tasks": TASKS, "eval_task_steps": 4}),
    "export_dtype": Change({}, {"export_dtype": "float32"}),  # that of the model here
    "gradient_checkpointing": Change({}, {"gradient_checkpointing": True}),
    "activation_offload": Change(
        {"gradient_checkpointing": True}, {"gradient_checkpointing": True, "activation_offload": True}
    ),
    "mlp_tile_tokens": Change({}, {"mlp_tile_tokens": 16}, bitwise=False),
    "loss_chunk_tokens": Change({}, {"loss_chunk_tokens": 5}, bitwise=False),
    "token_limit": Change({}, {"token_limit": 256}, bitwise=False),
    "rows_per_microbatch": Change(
        {"strategy": "padded"}, {"strategy": "padded", "rows_per_microbatch": 3}, bitwise=False
    ),
    "parallel": Change({}, {"parallel": "fsdp2"}, bitwise=False),
    "cpu_offload": Change({}, {"cpu_offload": True}, bitwise=False),
    "sequence_parallel": Change({}, {"sequence_parallel": 2}, bitwise=False, ranks=2),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("matrix"))


def settings(place: Path, **more: Any) -> TrainSettings:
    rows = str(place / "rows.jsonl")
    values = {
        "model": str(place / "model"), "data": {rows: None}, "eval_data": [rows], "window": 512, "dtype": "float64",
        "sequences_per_step": 4, "num_train_epochs": 20, "max_steps": STEPS, "learning_rate": 1e-3, "save_steps": 2,
    }  # fmt: skip
    return TrainSettings(**(values | more))


def killed_after(steps: int, wanted: TrainSettings, out: Path) -> None:
    """Train, and die as by `kill -9` at whatever the process is doing once that many steps are done."""

    def watch() -> None:
        while len([row for row in read_jsonl(out / "metrics.jsonl") if "loss" in row]) < steps:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    train(wanted, out)
    time.sleep(60)


def finished(out: Path) -> tuple[dict[str, torch.Tensor], list[int], str]:
    """Weights, numbers of the steps that were measured, and which rows each step trains on."""
    steps = [row["step"] for row in read_jsonl(out / "metrics.jsonl") if "loss" in row]
    return load_file(out / "final" / "model.safetensors"), steps, load_plan(out / "plan.npz").sampling_hash


def test_every_setting_that_decides_no_result_has_its_case() -> None:
    free = {name for name in TrainSettings.model_fields if decides(TrainSettings, name) != "result"}
    assert free == CHANGES.keys() | NEED_CUDA


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_another_way_of_running_carries_on(place: Path, tmp_path: Path, name: str) -> None:
    change = CHANGES[name]
    before, after = settings(place, **change.before), settings(place, **change.after)
    assert in_process(train, before, tmp_path / "straight") == 0
    out = tmp_path / "moved"
    assert in_process(killed_after, 9, before, out) == KILLED
    assert any((out / "checkpoints").iterdir())
    if change.ranks > 1:
        on_ranks(change.ranks, train, after, out)
    else:
        assert in_process(train, after, out) == 0
    assert not (out / "superseded").exists(), "nothing is set aside"
    (weights, steps, sampled), (wanted, _, expected) = finished(out), finished(tmp_path / "straight")
    assert steps == list(range(1, STEPS + 1))
    assert sampled == expected
    for key, value in wanted.items():
        if change.bitwise:
            assert torch.equal(weights[key], value), key
        else:
            torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-6, msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"max_steps": STEPS + 1}, {"num_train_epochs": 21}, {"learning_rate": 2e-3}])
def test_a_schedule_that_changes_is_refused_and_nothing_is_lost(
    place: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    """A cosine over other steps would have been another cosine from the first step on."""
    assert in_process(killed_after, 5, settings(place), tmp_path) == KILLED
    kept = sorted((tmp_path / "checkpoints").rglob("*"))
    ((name, value),) = change.items()
    with pytest.raises(RunError, match=rf"`{name}` was .* and is now {value}\. Checkpoints of the earlier run"):
        train(settings(place, **change), tmp_path)
    assert sorted((tmp_path / "checkpoints").rglob("*")) == kept
