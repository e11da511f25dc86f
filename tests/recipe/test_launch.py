"""`longalign run` with several processes: the same stages, started through torchrun, ended with the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from longalign.base.files import read_jsonl
from longalign.recipe.launch import environment
from tests.makers.models import make_model
from tests.makers.rows import make_rows
from tests.micro import command, longalign, make_base, make_documents, recipe, write_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The micro recipe with extend and one arm, nothing measured."""
    folder = tmp_path_factory.mktemp("launch")
    found = recipe(make_base(folder / "base"), make_documents(folder / "documents"))
    del found["eval"], found["throughput_rows"], found["data"]["short"]
    found["extend"]["parallel"] = found["train"]["parallel"] = "ddp"
    found["train"]["arms"] = {"long": {"data": {"long": 6, "builtin:chat-0-8": None}}}
    return found


def losses(run: Path, stage: str) -> list[float]:
    return [row["loss"] for row in read_jsonl(run / stage / "metrics.jsonl") if "loss" in row]


def children(parent: int) -> set[int]:
    """Processes below this one, of any depth."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in found.splitlines()]
    below: set[int] = set()
    while more := {pid for pid, above in pairs if above in below | {parent}} - below:
        below |= more
    return below


def test_a_recipe_under_torchrun_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    file = write_recipe(tmp_path / "r.yaml", values)
    done = subprocess.run(
        command("run", file, "--out", tmp_path / "run"),
        capture_output=True, text=True, env={**os.environ, "WORLD_SIZE": "2", "RANK": "0"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "processes_per_node" in done.stderr
    assert not (tmp_path / "run").exists()


def test_cores_are_shared_out_unless_somebody_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment(10_000)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(2)["OMP_NUM_THREADS"] == "3"


@pytest.mark.slow
def test_two_processes_end_where_one_ends_and_are_not_run_again(values: dict[str, Any], tmp_path: Path) -> None:
    exact = {"dtype": "float64", "optimizer": "adamw"}  # Muon rounds to bfloat16, which makes last digits large
    values = values | {stage: values[stage] | exact for stage in ("extend", "train")}
    file = write_recipe(tmp_path / "r.yaml", values)
    for processes in (1, 2):
        done = longalign("run", file, "--out", tmp_path / str(processes), "--processes_per_node", str(processes))
        assert done.returncode == 0, done.stderr
    for stage in ("extend", "train/long-seed0"):
        one, two = tmp_path / "1" / stage, tmp_path / "2" / stage
        assert losses(two, ".") == pytest.approx(losses(one, "."), rel=1e-9)
        weights, expected = (load_file(folder / "final" / "model.safetensors") for folder in (two, one))
        assert all((weights[name] - tensor).abs().max() < 1e-6 for name, tensor in expected.items())
    finished = (tmp_path / "2" / "train" / "long-seed0" / "stage.json").stat().st_mtime_ns
    again = longalign("run", file, "--out", tmp_path / "2")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "2" / "train" / "long-seed0" / "stage.json").stat().st_mtime_ns == finished


def heed_interrupts() -> None:
    """A shell starts what it puts into the background deaf to Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_a_failing_process_is_told_and_an_interrupt_leaves_none_behind(values: dict[str, Any], tmp_path: Path) -> None:
    broken = {**values, "processes_per_node": 2, "extend": {**values["extend"], "sequence_parallel": 3}}
    done = longalign("run", write_recipe(tmp_path / "broken.yaml", broken), "--out", tmp_path / "broken")
    assert done.returncode == 2
    assert "3 does not divide 2 ranks" in done.stderr
    assert "extend in 2 processes ended with exit code" in done.stderr

    slow = {
        **values,
        "processes_per_node": 2,
        "extend": {**values["extend"], "max_steps": 2000, "num_train_epochs": 900},
    }
    file, run = write_recipe(tmp_path / "slow.yaml", slow), tmp_path / "slow"
    process = subprocess.Popen(
        command("run", file, "--out", run), stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    deadline = time.monotonic() + 120
    while not (run / "extend" / "checkpoints" / "checkpoint-2").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    started = children(process.pid)
    assert len(started) >= 3  # torchrun and two ranks
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command carries on" in said
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_a_shipped_recipe_runs_on_a_small_model_with_files_of_its_names(tmp_path: Path) -> None:
    """recipes/modern/llama3.1-8b-64k.yaml as it stands, but for sizes, endpoint and downloads: rows, template, arms."""
    make_model(tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    (tmp_path / "recipes").symlink_to(RECIPES)
    for name, rows in (("sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json", 12), ("longalign/long.jsonl", 4)):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        make_rows(tmp_path / "data" / name, rows)
    chats = tmp_path / "data" / "sharegpt" / "ShareGPT_V3_unfiltered_cleaned_split.json"
    listed = [json.loads(line) for line in chats.read_text(encoding="utf-8").splitlines()]
    chats.write_text(json.dumps(listed), encoding="utf-8")
    chats_name, long_name = "data/sharegpt/ShareGPT_V3_unfiltered_cleaned_split.json", "data/longalign/long.jsonl"
    smaller = {
        "model": tmp_path / "model", "processes_per_node": 1, "train.window": 96, "train.sequence_parallel": 1,
        "train.sequences_per_step": 8, "train.max_steps": 2, "train.arms.0k.data": f"{{{chats_name}: 12}}",
        "train.arms.10k.data": f"{{{chats_name}: 12, {long_name}: null}}", "eval.short.questions": 7,
        "eval.chat": "null", "eval.leaderboard": "null", "eval.needle": "null",
    }  # fmt: skip
    overrides = [f"--{key}={value}" for key, value in smaller.items()]
    done = longalign("run", "recipes/modern/llama3.1-8b-64k.yaml", "--out", "run", *overrides, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert set(results["short"]) == {"base", "sft-0k", "sft-10k"}
