"""`torchrun -m longalign train` with DDP, FSDP2, sequence parallelism and LoRA ends where one process ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from longalign.base.files import read_jsonl
from longalign.core.step_plan import load_plan
from longalign.train import checkpoint
from longalign.train.parallel import ranks
from tests.makers.rows import make_inputs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs"), rows=40)


def launched(count: int) -> list[str]:
    several = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m"] if count > 1 else []
    return [sys.executable, "-m", *several, "longalign"]


def command(inputs: Path, out: Path, count: int, *more: str) -> list[str]:
    fixed = "--window 96 --sequences_per_step 8 --learning_rate 5e-3 --num_train_epochs 2 --save_steps 3 --seed 1"
    files = ["--model", str(inputs / "model"), "--data", str(inputs / "rows.jsonl"), "--out", str(out)]
    return [*launched(count), "train", *files, *fixed.split(), *more]


def train(inputs: Path, out: Path, count: int, *more: str) -> Path:
    result = subprocess.run(command(inputs, out, count, *more), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return out


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_jsonl(out / "metrics.jsonl") if "loss" in row]


@pytest.fixture(scope="module")
def alone(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(inputs, tmp_path_factory.mktemp("alone"), 1)


def assert_same(found: Path, expected: Path) -> None:
    assert losses(found) == pytest.approx(losses(expected), rel=2e-5)
    weights, wanted = (load_file(out / "final" / "model.safetensors") for out in (found, expected))
    assert weights.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (weights[name] - tensor).abs().max() < 2e-4, name


@pytest.mark.parametrize(
    "how",
    [
        "--parallel ddp",
        "--parallel fsdp2",
        "--parallel ddp --sequence_parallel 2",
        "--parallel fsdp2 --sequence_parallel 2 --gradient_checkpointing true --mlp_tile_tokens 16",
        "--parallel fsdp2 --strategy padded --rows_per_microbatch 2",
    ],
)
def test_two_ranks_end_where_one_process_ends(how: str, inputs: Path, alone: Path, tmp_path: Path) -> None:
    found = train(inputs, tmp_path, 2, *how.split())
    if "padded" in how:
        alone = train(inputs, tmp_path / "padded", 1, "--strategy", "padded", "--rows_per_microbatch", "2")
    assert_same(found, alone)


def test_muon_and_lora_under_fsdp2(inputs: Path, tmp_path: Path) -> None:
    for name, how in (("muon", "--optimizer muon"), ("lora", "--lora_rank 2")):
        one = train(inputs, tmp_path / f"{name}-1", 1, *how.split())
        two = train(inputs, tmp_path / f"{name}-2", 2, "--parallel", "fsdp2", *how.split())
        assert losses(two) == pytest.approx(losses(one), rel=1e-3), name


def test_extension_measures_windows_that_ranks_share(inputs: Path, tmp_path: Path) -> None:
    """Two ranks end where one does, in perplexity by position before and after; both read what the first prepared."""
    texts = tmp_path / "texts.jsonl"
    rows = [row["messages"][0]["content"] for row in read_jsonl(inputs / "rows.jsonl")]
    texts.write_text("".join(json.dumps({"text": f"{row} {row}"}) + "\n" for row in rows), encoding="utf-8")
    fixed = "--window 96 --rope-base-factor 200 --sequences_per_step 8 --learning_rate 5e-3 --max-steps 2"
    curves = []
    for count, more in ((1, []), (2, ["--parallel", "fsdp2", "--sequence_parallel", "2"])):
        given = ["--model", str(inputs / "model"), "--text", str(texts), "--out", str(tmp_path / str(count))]
        result = subprocess.run(
            [*launched(count), "extend", *given, *fixed.split(), *more], capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr[-3000:]
        curves.append(json.loads((tmp_path / str(count) / "positions.json").read_text()))
    assert curves[0].keys() == curves[1].keys() == {"original", "stretched", "extended"}
    for name, alone in curves[0].items():
        assert curves[1][name] == pytest.approx(alone, rel=1e-4), name


def _patient_rank(rank: int, store: str) -> None:
    how = {"rank": rank, "world_size": 2, "timeout": timedelta(seconds=2)}
    dist.init_process_group("gloo", init_method=f"file://{store}", **how)

    def work() -> str:
        time.sleep(5)
        return f"made by rank {rank}"

    assert ranks.on_first_rank(work) == "made by rank 0"
    dist.destroy_process_group()


def test_other_ranks_wait_for_the_first_beyond_the_limit_of_collectives(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_patient_rank, (str(tmp_path / "store"),), nprocs=2)


def train_until(step: int, inputs: Path, out: Path, count: int, *more: str) -> None:
    """Killed once the checkpoint of `step` is there; what came after it is lost."""
    process = subprocess.Popen(command(inputs, out, count, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    folder = out / "checkpoints"
    while not (folder / f"checkpoint-{step}").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)  # torchrun starts ranks in sessions of their own
    process.kill()
    for child in family:
        child.kill()
    psutil.wait_procs(family)
    process.wait()
    for later in checkpoint.all_checkpoints(folder):
        if checkpoint.step_of(later) > step:
            shutil.rmtree(later)
    assert checkpoint.newest_good(folder) == folder / f"checkpoint-{step}"


def assert_continued(out: Path, alone: Path) -> None:
    """The same sequences in the same steps, so the same losses; nothing repeated, nothing lost."""
    assert losses(out) == pytest.approx(losses(alone), rel=2e-5)
    logged = [row["target_tokens"] for row in read_jsonl(out / "metrics.jsonl") if "loss" in row]
    assert logged == [step.target_count for step in load_plan(alone / "plan.npz")]
    assert json.loads((out / "stage.json").read_text())["status"] == "done"


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)])
def test_killed_and_resumed_on_another_number_of_ranks(
    first: int, then: int, inputs: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train_until(3, inputs, out, first, "--parallel", "fsdp2")
    assert not (out / "final").exists()
    train(inputs, out, then, "--parallel", "fsdp2")
    assert_continued(out, alone)


def test_zero_3_resumes_itself_and_hands_over_to_one_process(inputs: Path, alone: Path, tmp_path: Path) -> None:
    """Its checkpoints are safetensors under parameter names like all others; float32, so equal to its rounding."""
    pytest.importorskip("deepspeed", reason="the extra `deepspeed` is not installed")
    if not torch.cuda.is_available() and shutil.which("c++") is None:
        pytest.skip("on a CPU DeepSpeed compiles an operator, and there is no C++ compiler")
    out = tmp_path / "out"
    train_until(3, inputs, out, 2, "--parallel", "deepspeed")
    train_until(6, inputs, out, 2, "--parallel", "deepspeed")
    suffixes = {path.suffix for path in (out / "checkpoints" / "checkpoint-6").iterdir()}
    assert suffixes == {".json", ".safetensors"}
    train(inputs, out, 1)
    assert_continued(out, alone)
    assert_same(out, alone)
    adapters, merged = ("--lora_rank", "2"), tmp_path / "lora"  # which the first rank alone merges and exports
    train(inputs, merged, 2, "--parallel", "deepspeed", *adapters)
    assert_same(merged, train(inputs, tmp_path / "lora-alone", 1, *adapters))


def test_a_mistake_is_told_once_and_no_rank_loses_its_connection(inputs: Path, tmp_path: Path) -> None:
    done = subprocess.run(command(inputs, tmp_path, 2), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    kept = sorted((tmp_path / "checkpoints").rglob("*"))
    refused = subprocess.run(
        command(inputs, tmp_path, 2, "--weight_decay", "0.5"), capture_output=True, text=True, timeout=300
    )
    assert refused.returncode != 0
    assert refused.stderr.count("error: ") == 1
    assert "`weight_decay` was 0.0 and is now 0.5" in refused.stderr
    assert "Connection closed" not in refused.stderr
    assert "longalign/train/" not in refused.stderr, "the only traceback is that of torchrun itself"
    assert sorted((tmp_path / "checkpoints").rglob("*")) == kept


def test_a_bad_setting_under_torchrun_is_one_line_from_the_first_rank(inputs: Path, tmp_path: Path) -> None:
    """What follows is torchrun's own report; under `longalign run` not even that."""
    for wrong, complaint in (
        (("--sequence_parallel", "3"), "error: sequence_parallel: 3 does not divide 2 ranks"),
        (("--learning_rat", "3"), "error: command line: unknown key `learning_rat` (did you mean `learning_rate`?)"),
    ):
        started = command(inputs, tmp_path / "out", 2, *wrong)
        done = subprocess.run(started, capture_output=True, text=True, timeout=300)
        own = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert own == [complaint]
        assert done.returncode != 0
        assert "longalign/" not in done.stderr, "the only traceback is that of torchrun itself"
    quiet = [part.replace("torch.distributed.run", "longalign.recipe.torchrun") for part in started]
    done = subprocess.run(quiet, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"{complaint}\n")


def test_what_only_a_later_rank_meets_is_told_by_that_rank(tmp_path: Path) -> None:
    script = tmp_path / "only_one.py"
    script.write_text(
        "import os, time\nfrom longalign.cli import ranks\nranks.FIRST_SPEAKS_WITHIN_S = 0.1\n"
        "ranks.fail('no such file on this node') if os.environ['RANK'] == '1' else time.sleep(60)\n"
    )
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(start, capture_output=True, text=True, timeout=120)
    assert done.stderr.count("error: no such file on this node\n") == 1
    assert done.returncode != 0
