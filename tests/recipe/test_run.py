"""The whole recipe through the command line: it measures every model, survives kills, and redoes only what it must."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from longalign.base.files import fingerprint_path, read_jsonl
from longalign.config.load import load_run
from longalign.data.source import read_rows
from longalign.recipe.run import run as plan_or_run
from tests.makers.text import prose
from tests.micro import EVALUATED, MODELS, TRAINED, command, environment, longalign, results_of, write_recipe
from tests.test_readme import block

MOMENTS = {
    "extend": "extend/checkpoints/checkpoint-2/manifest.json",
    "data": "data/long/rows.work/documents.sqlite",
    "train": "train/long-seed0/checkpoints/checkpoint-1/manifest.json",
    "throughput": "throughput/sorted/metrics.jsonl",
    "eval": "eval/extended/needle/answers.jsonl",
}
"""What a kill waits for: the first file that shows that the stage is under way."""


def stage_files(run: Path) -> dict[str, int]:
    """Every file of every stage and data set, apart from locks and what was set aside -> when it was written."""
    stages = [manifest.parent for manifest in run.rglob("stage.json")] + list((run / "data").iterdir())
    found = {file for stage in stages for file in stage.rglob("*") if file.is_file() and file.name != ".lock"}
    kept = {str(file.relative_to(run)): file.stat().st_mtime_ns for file in found}
    return {name: written for name, written in kept.items() if "superseded" not in name}


def measured(run: Path) -> dict[str, bytes]:
    """What a run measured and made, bit for bit: results, scores, rows, weights."""
    names = [
        f"eval/{model}/{part}/scores.jsonl" for model in EVALUATED for part in ("needle", "short", "longbench_chat")
    ]
    names += [f"data/{name}/rows.jsonl" for name in ("short", "long")]
    names += [f"{name}/final/model.safetensors" for name in ("extend", *TRAINED)]
    return {name: (run / name).read_bytes() for name in ("results.json", *names)}


def copy_of(micro_run: Path, place: Path) -> Path:
    """The finished run in another place."""
    return shutil.copytree(micro_run, place / "run")


def complaint_of(done: subprocess.CompletedProcess[str]) -> str:
    """The message of a run that ended with exit code 2; it has one or two lines."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("error: ") :].strip()
    assert len(message.splitlines()) <= 2
    return message


def test_one_recipe_goes_through_every_stage_and_measures_every_model(micro_place: Path, micro_run: Path) -> None:
    results = results_of(micro_run)
    assert list(results["needle"]) == list(MODELS)
    for lengths in results["needle"].values():
        assert list(lengths) == ["128", "256", "512"]
        assert all(0 <= row["accuracy"] <= 1 and row["questions"] == 4 for row in lengths.values())
    for part, measure, questions in (("short", "accuracy", 7), ("longbench_chat", "mean", 4)):
        assert list(results[part]) == list(MODELS)
        assert all(row[measure] is not None and row["questions"] == questions for row in results[part].values())
    assert [len(list(read_rows(micro_run / "data" / name / "rows.jsonl"))) for name in ("short", "long")] == [12, 6]
    page = (micro_run / "report.html").read_text(encoding="utf-8")
    assert all(model in page for model in MODELS)
    said = (micro_place / "stdout.txt").read_text(encoding="utf-8")
    assert "needle accuracy at" in said
    assert "run/report.html" in said


def test_a_run_leaves_every_file_of_the_drawing_in_the_readme(micro_run: Path) -> None:
    places = [line.split()[1] for line in block("documents ")[2::2]]
    patterns = [re.sub(r"[A-Z]+", "*", place) for place in places]
    assert [place for place, pattern in zip(places, patterns, strict=True) if not any(micro_run.glob(pattern))] == []


def test_a_plan_of_a_finished_run_changes_nothing(micro_run: Path, tmp_path: Path) -> None:
    run = copy_of(micro_run, tmp_path)
    before = fingerprint_path(tmp_path)
    for overrides in ({}, {"data.long.seed": 5, "data.long.min_length_tokens": 200, "train.learning_rate": 1.0}):
        planned = plan_or_run(load_run(micro_run.parent / "micro.yaml", overrides)[0], run, plan_only=True)
        assert (
            planned["arms"]["long"]["mix"][0] | {"file": "short", "held": 12, "rows": 6}
            == planned["arms"]["long"]["mix"][0]
        )
        assert planned["data"]["long"]["basis"] == "documents counted"
    assert fingerprint_path(tmp_path) == before


@pytest.mark.slow
def test_a_second_run_changes_no_stage_and_prints_one_json_object(micro_run: Path, tmp_path: Path) -> None:
    run = copy_of(micro_run, tmp_path)
    before = stage_files(run)
    done = longalign("run", micro_run.parent / "micro.yaml", "--out", run, "--json")  # moved, and named from elsewhere
    assert done.returncode == 0, done.stderr
    assert len(before) > 100
    assert stage_files(run) == before
    assert json.loads(done.stdout)["results"] == results_of(micro_run) == results_of(run)


@pytest.mark.slow
def test_killed_in_every_stage_it_ends_with_the_same_bits(micro_run: Path, tmp_path: Path) -> None:
    arguments = command("run", micro_run.parent / "micro.yaml", "--out", "run")
    for stage, file in MOMENTS.items():
        kill_when(arguments, tmp_path, tmp_path / "run" / file, stage)
        assert not (tmp_path / "run" / "results.json").exists()
    done = longalign(*arguments[3:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, expected = measured(tmp_path / "run"), measured(micro_run)
    assert [name for name in expected if found[name] != expected[name]] == []


def kill_when(arguments: list[str], cwd: Path, file: Path, stage: str) -> None:
    """Start a run and kill its whole process group, as `kill -9` does, once `file` is there."""
    with (cwd / f"{stage}.log").open("w") as log:
        process = subprocess.Popen(
            arguments, cwd=cwd, env=environment(), stdout=log, stderr=log, start_new_session=True
        )
    while not file.exists():
        assert process.poll() is None, f"ended before {file}: {(cwd / f'{stage}.log').read_text()}"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "reached"),
    [
        (["--eval.needle.needles", "1"], [f"eval/{model}/needle" for model in EVALUATED]),
        (
            ["--train.arms.long.learning_rate", "1e-3"],
            [
                "train/long-seed0",
                "throughput",
                *(f"eval/sft-long-seed0/{p}" for p in ("needle", "short", "longbench_chat")),
            ],
        ),
    ],
    ids=["questions", "one arm"],
)
def test_a_changed_setting_redoes_what_it_reaches_and_sets_old_outputs_aside(
    micro_run: Path, tmp_path: Path, override: list[str], reached: list[str]
) -> None:
    run = copy_of(micro_run, tmp_path)
    before = stage_files(run)
    call = ["run", micro_run.parent / "micro.yaml", "--out", "run", *override]
    if any(place.startswith("train/") for place in reached):
        refused = longalign(*call, cwd=tmp_path)
        assert refused.returncode == 2
        assert "`learning_rate` was 0.005 and is now 0.001" in refused.stderr
        assert stage_files(run) == before, "checkpoints are set aside on demand only"
        call.append("--restart")
    done = longalign(*call, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = stage_files(run)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    folders = {place for place in reached for name in changed if name.startswith(f"{place}/")}
    assert sorted(folders) == sorted(reached)
    assert [name for name in changed if not name.startswith(tuple(f"{place}/" for place in reached))] == []
    for place in reached:
        (old,) = (run / place).glob("superseded/*/stage.json")
        assert (
            json.loads(old.read_text())["fingerprint"]
            != json.loads((run / place / "stage.json").read_text())["fingerprint"]
        )
    asked = 2 if "needles" in override[0] else 4
    assert all(row["questions"] == asked for row in results_of(run)["needle"]["sft-long"].values())


@pytest.mark.slow
def test_it_runs_on_a_folder_of_ones_own_texts_and_says_when_they_are_few(micro_place: Path, tmp_path: Path) -> None:
    own = tmp_path / "my texts"
    own.mkdir()
    (own / "an essay.txt").write_text(prose(900, 120), encoding="utf-8")
    (own / "一篇文章.txt").write_text(prose(901, 120, "zh"), encoding="utf-8")
    values = yaml.safe_load((micro_place / "micro.yaml").read_text(encoding="utf-8"))
    values["data"]["short"]["rows"], values["data"]["long"]["rows"] = 4000, 2000
    values["train"]["arms"] = {"short": {"data": {"short": 4000}}, "long": {"data": {"short": 2000, "long": 2000}}}
    values["throughput_rows"] = 0
    values["eval"] = {"short": {"questions": 7, "max_new_tokens": 4}}
    recipe = write_recipe(tmp_path / "own.yaml", values)
    done = longalign("run", recipe, "--out", "run", "--documents", "my texts", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {name: list(read_rows(tmp_path / "run" / "data" / name / "rows.jsonl")) for name in ("short", "long")}
    for found in rows.values():
        assert {row["origin"].partition("#")[0] for row in found} <= {"my texts/an essay.txt", "my texts/一篇文章.txt"}
        assert {row["language"] for row in found} == {"en", "zh"}
    (note,) = json.loads(done.stdout)["notes"]
    assert f"{len(rows['long'])} of 2000 long rows" in note
    trained = {arm: read_jsonl(tmp_path / "run" / "train" / f"{arm}-seed0/tokens/rows.jsonl") for arm in values["data"]}
    assert abs(len(trained["short"]) - len(trained["long"])) <= 1, "arms stay alike"
    assert len(trained["long"]) <= 2 * len(rows["long"])
    words = {line["title"] for line in read_jsonl(tmp_path / "run" / "extend" / "tokens" / "rows.jsonl")}
    assert len(words) > 2, "own texts join the recipe's text"


def gpt2(micro_place: Path, tmp_path: Path) -> dict[str, Any]:
    """A model with learned positions instead of RoPE."""
    from transformers import GPT2Config, GPT2LMHeadModel

    shutil.copytree(micro_place / "base", tmp_path / "gpt2")
    (tmp_path / "gpt2" / "model.safetensors").unlink()
    config = GPT2Config(vocab_size=2000, n_embd=32, n_layer=1, n_head=2, n_positions=256)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    return {"model": "gpt2"}


MISTAKES: dict[str, tuple[Any, list[str]]] = {
    "rows that nothing holds": (
        {"train": {"arms": {"long": {"data": {"lnog": 5}}}}},
        ["train.arms.long.data", "`lnog`", "did you mean `long`?"],
    ),
    "no such model": ({"model": "nowhere/base"}, ["nowhere/base"]),
    "no documents": ({"data": {"long": {"documents": ["empty"]}}}, ["empty", "no document"]),
    "documents that are not there": ({"extend": {"text": ["gone"]}}, ["gone: no such file or folder"]),
    "no haystack": ({"eval": {"needle": {"haystack": ["gone.txt"]}}}, ["gone.txt: no such file or folder"]),
    "no cases": ({"eval": {"chat": {"cases": "gone.json"}}}, ["eval.longbench_chat.cases: gone.json: no such file"]),
    "a judge without its key": (
        {"eval": {"chat": {"judge": "openai:gpt-4o@https://api.openai.com/v1"}}},
        ["OPENAI_API_KEY is not set"],
    ),
    "a maker without its key": (
        {"data": {"long": {"llm": "openai:gpt-4o@https://api.openai.com/v1"}}},
        ["OPENAI_API_KEY is not set"],
    ),
    "a window smaller than its rows": (
        {"train": {"window": 256}},
        ["data.long.max_length_tokens = 512", "train.arms.long (256)", "overlong"],
    ),
    "no RoPE to stretch": (gpt2, ["gpt2", "no rotary position encoding"]),
}


SLOW = (
    "no such model", "no RoPE to stretch", "a judge without its key", "a maker without its key", "no documents",
    "no cases", "no haystack",
)  # fmt: skip
"""These load torch, or a large SDK."""


@pytest.mark.parametrize("mistake", [pytest.param(m, marks=pytest.mark.slow if m in SLOW else ()) for m in MISTAKES])
def test_a_mistake_is_named_before_anything_runs_and_finished_stages_stay(
    micro_place: Path, micro_run: Path, tmp_path: Path, mistake: str
) -> None:
    from longalign.config.load import merge

    changes, words = MISTAKES[mistake]
    (tmp_path / "empty").mkdir()
    run = copy_of(micro_run, tmp_path)
    before = stage_files(run)
    values = yaml.safe_load((micro_place / "micro.yaml").read_text(encoding="utf-8"))
    wrong = merge(values, changes(micro_place, tmp_path) if callable(changes) else changes)
    done = longalign("run", write_recipe(tmp_path / "wrong.yaml", wrong), "--out", "run", cwd=tmp_path)
    message = complaint_of(done)
    for word in words:
        assert word in message
    assert stage_files(run) == before


@pytest.mark.slow
def test_a_second_process_is_told_who_holds_the_folder_and_an_interrupted_one_says_how_to_carry_on(
    micro_place: Path, tmp_path: Path
) -> None:
    arguments = ("run", micro_place / "micro.yaml", "--out", "run")
    with (tmp_path / "log").open("w") as log:
        first = subprocess.Popen(command(*arguments), cwd=tmp_path, env=environment(), stdout=log, stderr=log)
    while not (tmp_path / "run" / "extend" / "stage.json").exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    assert complaint_of(longalign(*arguments, cwd=tmp_path)).startswith(f"error: run: in use by process {first.pid}")
    first.send_signal(signal.SIGCONT)
    first.send_signal(signal.SIGINT)
    assert first.wait() == 130
    said = (tmp_path / "log").read_text()
    assert said.endswith("interrupted; the same command carries on\n")
    assert "Traceback" not in said
