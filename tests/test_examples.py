"""The examples are real: scripts parse, their commands are ones the program takes, and torchrun runs them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from longalign.cli.verbs import spread_lists
from tests.makers.rows import make_inputs
from tests.makers.scripted_model import save_scripted_model
from tests.makers.text import prose
from tests.test_docs import commands, settings_of, verb_of

EXAMPLES = Path(__file__).parents[1] / "examples"
SHELL = [*sorted(EXAMPLES.glob("*.sh")), *sorted(EXAMPLES.glob("*.sbatch"))]
QUICK = ["--window", "96", "--sequences_per_step", "8", "--num_train_epochs", "1", "--max_steps", "2"]


def text_of(path: Path) -> str:
    """The script; of a manifest, what its container runs."""
    if path.suffix != ".yaml":
        return path.read_text(encoding="utf-8")
    _, job = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    return str(job["spec"]["template"]["spec"]["containers"][0]["args"][0])


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_scripts_parse(path: Path) -> None:
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert path.suffix == ".sbatch" or os.access(path, os.X_OK)


@pytest.mark.parametrize("path", [*SHELL, EXAMPLES / "kubernetes.yaml"], ids=lambda path: path.name)
def test_their_commands_are_taken_as_they_stand(path: Path) -> None:
    found = list(commands(text_of(path)))
    assert found
    for words in found:
        plain = [word for word in words if "[@]" not in word and word != "$@"]  # what the script adds at the end
        plain = ["7" if word.startswith("${ROWS") else word for word in plain]
        verb, command, rest = verb_of(spread_lists(plain))
        with command.make_context(verb, rest) as context:
            settings_of(verb, context)


def test_the_job_meets_at_a_pod_that_the_service_names() -> None:
    service, job = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text(encoding="utf-8"))
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert f"--master-addr {name}-0.{pod['subdomain']} " in text_of(EXAMPLES / "kubernetes.yaml")
    assert f"--nnodes {job['spec']['completions']} " in text_of(EXAMPLES / "kubernetes.yaml")
    assert job["spec"]["completions"] == job["spec"]["parallelism"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def with_torchrun() -> dict[str, str]:
    """An environment in which `torchrun` is this Python's."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fsdp2", "sp2"])
def test_the_torchrun_script_trains_with_two_processes(how: str, inputs: Path, tmp_path: Path) -> None:
    own = {"MODEL": str(inputs / "model"), "DATA": str(inputs / "rows.jsonl"), "OUT": str(tmp_path), "GPUS": "2"}
    done = subprocess.run(
        [str(EXAMPLES / "torchrun.sh"), how, *QUICK],
        capture_output=True, text=True, env=with_torchrun() | own, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "final" / "model.safetensors").exists()
    assert done.stdout.count("final_loss") == 1  # one process speaks


@pytest.mark.slow
def test_two_torchruns_meet_as_two_nodes(inputs: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    nodes = []
    for rank in ("0", "1"):
        start = [
            shutil.which("torchrun", path=with_torchrun()["PATH"]) or "torchrun",
            "--nnodes",
            "2",
            "--node-rank",
            rank,
        ]
        start += [
            "--master-addr",
            "127.0.0.1",
            "--master-port",
            port,
            "--nproc-per-node",
            "1",
            "-m",
            "longalign",
            "train",
        ]
        files = ["--model", str(inputs / "model"), "--data", str(inputs / "rows.jsonl"), "--out", str(tmp_path)]
        nodes.append(subprocess.Popen([*start, *files, *QUICK, "--parallel", "fsdp2"], env=with_torchrun()))
    assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    assert (tmp_path / "final" / "model.safetensors").exists()


SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
"""Runs on this machine what SLURM would run on others."""


@pytest.mark.slow
def test_the_ray_job_builds_rows_on_two_nodes(tmp_path: Path) -> None:
    """Two nodes of Ray on one machine, a model that says what it is told, no GPU."""
    save_scripted_model(tmp_path / "model")
    (tmp_path / "documents").mkdir()
    for number in range(12):
        (tmp_path / "documents" / f"{number:02}.txt").write_text(prose(number, 10 + number))
    (tmp_path / "bin").mkdir()
    for name, text in (
        ("srun", SRUN),
        ("scontrol", "#!/bin/sh\necho 127.0.0.1\n"),
        ("longalign", f'#!/bin/sh\nexec {sys.executable} -m longalign "$@"\n'),
    ):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    text = (EXAMPLES / "data_ray.sbatch").read_text(encoding="utf-8")
    for there, here in (
        ("data/documents", f"{tmp_path}/documents --preset paper --min_support 0.01 --min_length_tokens 100"),
        ("vllm:Qwen/Qwen3-8B ", f"{tmp_path}/model "),
        ("Qwen/Qwen3-8B-Base", f"{tmp_path}/model --max_length_tokens 2048"),
        ("--rows 10000", "--rows 8"),
        ("--ray_copies 16", "--ray_copies 2"),
        ("--num-gpus=8", "--num-gpus=0"),
        ("data/long.jsonl", f"{tmp_path}/out"),
    ):
        assert there in text
        text = text.replace(there, here)
    slurm = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NNODES": "2"}
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, timeout=300,
        env=with_torchrun() | slurm | {"SLURM_CPUS_PER_TASK": "1", "PATH": f"{tmp_path}/bin:{with_torchrun()['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 CPUs, 0 GPUs" in done.stderr
    assert len((tmp_path / "out" / "rows.jsonl").read_text(encoding="utf-8").splitlines()) == 8
