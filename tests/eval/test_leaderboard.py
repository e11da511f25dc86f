"""Short tasks of lm-evaluation-harness: run by the harness itself on a task file of ours, kept question by question."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from longalign.base.files import read_jsonl
from longalign.config import EvalSettings, LeaderboardSettings
from longalign.errors import ConfigError
from longalign.eval.compare import compare
from longalign.eval.evaluate import evaluate
from longalign.eval.leaderboard import rows_of, tally

HARNESS = importlib.util.find_spec("lm_eval") is not None
TASK = """
task: longalign_colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: right
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1}}
"""


def test_endpoints_cannot_be_asked_for_likelihoods(tmp_path: Path) -> None:
    settings = EvalSettings(model="openai:m@http://localhost:1/v1", leaderboard=LeaderboardSettings())
    with pytest.raises(ConfigError, match="local model"):
        evaluate(settings, tmp_path)


def test_the_metric_of_a_task_is_the_leaderboards() -> None:
    samples = [{"doc_id": n, "doc_hash": f"h{n}", "acc": 1.0, "acc_norm": float(n % 2), "metrics": []} for n in (1, 0)]
    arc = rows_of("arc_challenge", "arc_challenge", samples)
    assert [(row["key"], row["score"]) for row in arc] == [("arc_challenge/0", 0.0), ("arc_challenge/1", 1.0)]
    law, *_ = rows_of("mmlu", "mmlu_law", samples)
    assert (law["key"], law["kind"], law["score"]) == ("mmlu_law/0", "mmlu", 1.0)
    assert (tally(arc, 25).accuracy, tally(arc, 25).metric) == (0.5, "acc_norm")


@pytest.mark.skipif(HARNESS, reason="the harness is installed")
def test_without_the_extra_the_error_says_how_to_install_it(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'longalign\[leaderboard\]'"):
        evaluate(EvalSettings(model=str(tiny_model), leaderboard=LeaderboardSettings()), tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not HARNESS, reason="lm-evaluation-harness is not installed")
@pytest.mark.filterwarnings("ignore")
def test_the_harness_runs_a_local_task(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    rows = tasks / "rows.jsonl"
    questions = [{"question": f"Page {n} is", "choices": ["old", "river"], "right": n % 2} for n in range(10)]
    rows.write_text("\n".join(map(json.dumps, questions)))
    (tasks / "colours.yaml").write_text(TASK.format(rows=rows))
    wanted = LeaderboardSettings(tasks={"longalign_colours": 0}, include_path=str(tasks), dtype="float32")
    settings = EvalSettings(model=str(tiny_model), leaderboard=wanted)
    got = evaluate(settings, tmp_path / "out")
    row = got["tasks"]["longalign_colours"]
    assert (row["questions"], row["metric"], row["shots"]) == (10, "acc", 0)
    scores = read_jsonl(tmp_path / "out" / "scores.jsonl")
    assert row["accuracy"] == sum(score["score"] for score in scores) / 10
    assert "longalign_colours" in got["text"]
    (tmp_path / "out" / "stage.json").unlink()
    assert evaluate(settings, tmp_path / "out") == got  # the finished task is not run again
    evaluate(settings, tmp_path / "again")
    same = compare(tmp_path / "out", tmp_path / "again")
    assert same["groups"]["all"]["ties"] == 10
    with pytest.raises(ConfigError, match="has no task `none`"):
        evaluate(
            settings.model_copy(update={"leaderboard": wanted.model_copy(update={"tasks": {"none": 0}})}), tmp_path
        )
