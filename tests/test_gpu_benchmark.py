"""The benchmark for GPUs runs from end to end without one: the first hour on a GPU is not for finding slips."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.micro import environment

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "benchmarks.gpu_training"]


@pytest.mark.slow
def test_every_kind_of_case_runs_on_a_tiny_shape(tmp_path: Path) -> None:
    how = ["speed", "--smoke", "--results", str(tmp_path)]
    done = subprocess.run([*COMMAND, *how], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "gpu_training_speed_smoke.json").read_text())["rows"]
    ours = [row for row in rows if row["side"] == "longalign"]
    assert [row["mode"] for row in ours] == ["lora", "full"]
    assert all(row["tokens"] == 512 and row["tokens_per_s"] > 0 for row in ours)
    assert all("tokens_per_s" in row or row["left_out"] == "trl is not installed" for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([*COMMAND, "reach"], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "no CUDA device here" in done.stderr
