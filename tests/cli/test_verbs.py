"""The command line as a person meets it: real processes, exit codes, one JSON object on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from longalign.base.stage import open_stage
from longalign.cli.verbs import spread_lists
from longalign.config import ShortSettings


def longalign(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "longalign", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240)


def test_help_names_every_stage_of_the_recipe() -> None:
    result = longalign("--help")
    assert result.returncode == 0
    for verb in ("extend", "data", "plan", "train", "eval", "report", "run", "ask", "config"):
        assert verb in result.stdout


def test_without_a_verb_it_shows_the_help_and_no_empty_error() -> None:
    for arguments in ((), ("eval",)):
        result = longalign(*arguments)
        assert result.returncode == 2
        assert "Usage" in result.stdout + result.stderr
        assert "error:" not in result.stderr


def test_plan_prints_one_json_object_and_nothing_else(tmp_path: Path) -> None:
    np.save(tmp_path / "lengths.npy", np.random.default_rng(0).integers(64, 65536, size=200))
    command = "plan --window 65536 --ranks 8 --sequences-per-step 96 --strategy balanced --model-shape 7b --json"
    result = longalign(*command.split(), "--lengths", str(tmp_path / "lengths.npy"))
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    keys = "strategy sequences dropped steps packs pack_efficiency idle_fraction speedup_over_padded layout plan_hash"
    assert {*keys.split(), "plan_seconds"} <= set(report)
    assert (report["sequences"], report["dropped"]) == (200, 0)


@pytest.mark.slow
def test_what_is_planned_is_trained_with_the_papers_packing(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "why? " * n}, {"role": "assistant", "content": "because " * n}]}
        for n in range(1, 25)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = "--data rows.jsonl --window 256 --sequences_per_step 6 --packing next_fit --packs_per_step 2 --json"
    trained = longalign("train", *asked.split(), "--plan-only", "--out", "out", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    how = "--tokenizer builtin:tiny-base --model-shape builtin:tiny-base --machine cpu --num_train_epochs 2"
    planned = longalign("plan", *asked.split(), *how.split(), cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    reports = [json.loads(done.stdout) for done in (trained, planned)]
    assert reports[0]["strategy"] == "packed"
    assert reports[0]["sampling_hash"] == reports[1]["sampling_hash"]
    assert reports[0]["plan_hash"] == reports[1]["plan_hash"]
    refused = longalign("train", *asked.split(), "--strategy", "padded", "--out", "out", cwd=tmp_path)
    assert refused.returncode == 2
    assert "packing needs strategy packed" in refused.stderr


LOADS_TORCH = pytest.mark.slow
"""Enough others load it in the default suite."""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("plan --lengths none.npy", "none.npy"),
        pytest.param("train --data none.jsonl --out out", "none.jsonl", marks=LOADS_TORCH),
        ("train --out out --learning_rat 3", "did you mean `learning_rate`?"),
        pytest.param("train --out out", "data", marks=LOADS_TORCH),
        pytest.param("extend --out out", "--text", marks=LOADS_TORCH),
        ("data build --documents none --rows 3 --out rows.jsonl", "none"),
        pytest.param("eval needle --model none --lengths 64 --out out", "none", marks=LOADS_TORCH),
        ("eval needle --lengths 64,x --out out", "whole numbers"),
        ("run none.yaml", "no such recipe"),
        ("report none --out page.html", "none"),
        ("data build --price_usd_per_million [0.4 --out l.jsonl", "--price_usd_per_million: `[0.4` cannot be read"),
        ("eval needle --plan-onli --out out", "unknown key `needle.plan_onli`"),
        ("ask why --document none.txt --model none", "none"),
    ],
)
def test_a_mistake_ends_with_exit_code_2_and_a_short_message_that_names_it(
    tmp_path: Path, arguments: str, complaint: str
) -> None:
    result = longalign(*arguments.split(), cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert complaint in result.stderr
    assert result.stdout == ""
    message = result.stderr[result.stderr.find("error:") :] if "error:" in result.stderr else ""
    assert len(message.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param("train --out afile", "afile: cannot be a folder, because afile is a file", marks=LOADS_TORCH),
        pytest.param("train --out /proc/xx", "/proc/xx: cannot be written", marks=LOADS_TORCH),
        ("plan --lengths lengths.npy --out afile/x", "afile/x: cannot be a folder, because afile is a file"),
        ("report done --out done", "done: is a folder; name a file"),
        ("report done --out .", "is a folder; name a file"),
        ("report done --out afile/x.html", "afile is a file"),
        ("data build --llm offline --rows 1 --out afile/l.jsonl", "because afile is a file"),
    ],
)
def test_a_place_that_cannot_be_written_is_named_and_left_as_it_was(
    tmp_path: Path, arguments: str, complaint: str
) -> None:
    np.save(tmp_path / "lengths.npy", np.full(9, 64))
    (tmp_path / "afile").write_text("mine")
    with open_stage(tmp_path / "done", "short", settings=ShortSettings(), inputs={}, version=1) as stage:
        stage.finish({})
    result = longalign(*arguments.split(), cwd=tmp_path)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "afile").read_text() == "mine"
    assert (tmp_path / "done" / "stage.json").exists()


def test_help_shows_the_options_of_a_verb_and_where_the_others_are() -> None:
    told = {"plan": "--tokenizer", "eval mt-bench": "--references", "data build": "anthropic:MODEL"}
    for verb, words in told.items():
        shown = longalign(*verb.split(), "--help").stdout
        assert words in shown
        assert "docs/reference/settings.md" in shown


def test_ask_prints_the_answer_and_says_on_stderr_what_was_cut(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("The gate is northern. " * 400, encoding="utf-8")
    how = ["--model", "offline", "--window", "300", "--max-new-tokens", "20"]
    done = longalign("ask", "Which gate?", "--document", str(tmp_path / "long.txt"), *how)
    assert done.returncode == 0
    assert done.stdout.strip()
    assert done.stderr.startswith("note: document cut in the middle: ")


def test_config_show_tells_value_and_source_of_every_setting(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: x\ntrain: {window: 4096}\n")
    result = longalign("config", "show", "r.yaml", "--train.seed", "7", "--json", cwd=tmp_path)
    shown = json.loads(result.stdout)
    assert shown["train.window"] == {"value": 4096, "source": "r.yaml"}
    assert shown["train.seed"] == {"value": 7, "source": "command line"}
    assert shown["train.weighting"] == {"value": "sequence", "source": "default"}


def test_several_values_may_follow_a_list_option_or_repeat_it() -> None:
    given = ["train", "--data", "a", "b", "--data", "c", "--window", "9"]
    assert spread_lists(given) == ["train", "--data", "a", "--data", "b", "--data", "c", "--window", "9"]
