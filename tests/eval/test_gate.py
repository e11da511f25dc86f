"""The gate passes a model that is better, fails one that is not, and never passes what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from longalign.errors import ConfigError, RunError
from longalign.eval.gate import gate

N = 200


def write(folder: Path, task: str, scores: list[Any], **results: Any) -> None:
    """Results of a task; `scores` are rights and wrongs, None without an answer, or ratings 1-10 for judged tasks."""
    judged = task == "longbench_chat"
    how = {"figure": "score" if judged else "score.exact", "group": "kind", "cluster": "document" if judged else None}
    rows = [
        {
            "key": str(n),
            "question": f"q{n}",
            "document": f"d{n // 2}",
            "kind": "all",
            "answer": None if score is None else "said",
            "score": None if score is None else score if judged else {"exact": bool(score)},
            **({"rubric": "chat"} if judged else {}),
        }
        for n, score in enumerate(scores)
    ]
    folder.mkdir(parents=True)
    (folder / "scores.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "results.json").write_text(json.dumps({"task": task, "label": "m", "compared": how, **results}))


def share(right: float, n: int = N) -> list[int]:
    """Answers of which the first ones are right."""
    return [int(k < right * n) for k in range(n)]


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """A base, and a model that is better at needles and the same elsewhere."""
    for name, needle, short in (("base", 0.5, 0.9), ("mine", 0.8, 0.9)):
        write(tmp_path / name / "needle", "needle", share(needle))
        write(tmp_path / name / "short", "short", share(short))
    return tmp_path / "base", tmp_path / "mine"


def test_a_model_that_is_better_at_long_tasks_and_no_worse_at_short_ones_passes(models: tuple[Path, Path]) -> None:
    got = gate(*models, {"long": "better", "short": "not-worse:2"})
    assert got["passed"]
    needle, short = got["checks"]
    assert (needle["task"], short["task"]) == ("needle", "short")
    assert needle["difference_points"] == pytest.approx(30)
    assert needle["low_points"] > 20
    assert short["low_points"] > -2
    assert "\n" not in got["text"]
    assert got["text"].startswith("gate passed: needle: better (+30.0 points, 95% ")


def test_the_other_way_round_fails_with_the_reason(models: tuple[Path, Path]) -> None:
    base, mine = models
    got = gate(mine, base, {"long": "better", "short": "not-worse:2"})
    assert not got["passed"]
    assert got["text"].startswith("gate failed: needle: not shown to be better (-30.0 points")
    assert "short" not in got["text"]
    assert not gate(mine, base, {"long": "not-worse:29"})["passed"]
    assert gate(mine, base, {"long": "not-worse:40"})["passed"]


def test_equal_scores_are_no_proof_where_questions_are_few(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, "short", share(0.8, 20))
    got = gate(tmp_path / "a", tmp_path / "b", {"short": "not-worse:2"})
    assert "may be worse by more than 2 points" in got["text"]
    assert gate(tmp_path / "a", tmp_path / "b", {"short": "not-worse:20"})["passed"]


def test_margins_of_ratings_are_hundredths_of_their_scale(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(3, 8, N).astype(float)
    write(tmp_path / "a", "longbench_chat", base.tolist())
    write(tmp_path / "b", "longbench_chat", (base + rng.choice([-1.0, 1.0], N, p=[0.6, 0.4])).tolist())
    (check,) = gate(tmp_path / "a", tmp_path / "b", {"long": "not-worse:9"})["checks"]
    assert check["difference_points"] == pytest.approx(100 / 9 * -0.2, abs=1.5)
    assert check["passed"]
    assert not gate(tmp_path / "a", tmp_path / "b", {"long": "not-worse:1"})["passed"]


def test_what_is_missing_fails(models: tuple[Path, Path], tmp_path: Path) -> None:
    base, mine = models
    (mine / "short" / "results.json").unlink()
    assert "short: no results of your model" in gate(base, mine, {"short": "not-worse:2"})["text"]
    assert "longbench: neither model has results" in gate(base, mine, {}, {"longbench": "better"})["text"]
    (tmp_path / "empty").mkdir()
    got = gate(tmp_path / "empty", tmp_path / "empty", {"long": "better"})
    assert not got["passed"]
    assert "long: no results of its tasks (needle," in got["text"]


def test_answers_that_failed_fail_the_gate_unless_they_count_as_wrong(tmp_path: Path) -> None:
    write(tmp_path / "a", "needle", share(0.5))
    write(tmp_path / "b", "needle", [None if k < 20 else 1 for k in range(N)])
    got = gate(tmp_path / "a", tmp_path / "b", {"long": "better"})
    assert "20 of 200 questions have no answer of your model" in got["text"]
    got = gate(tmp_path / "a", tmp_path / "b", {"long": "better"}, failed="wrong")
    assert got["passed"]
    assert got["checks"][0]["difference_points"] == pytest.approx(40)
    assert "20 failed and counted as wrong" in got["text"]


def test_other_questions_and_other_judges_fail(models: tuple[Path, Path], tmp_path: Path) -> None:
    write(tmp_path / "fewer", "needle", share(0.9, N - 10))
    assert (
        "10 questions were asked of one model only" in gate(models[0], tmp_path / "fewer", {"long": "better"})["text"]
    )
    for name, judge in (("j", "J"), ("k", "K")):
        given = {"model": judge, "prompt_hash": {"chat": "1"}}
        write(tmp_path / name, "longbench_chat", [float(1 + k % 9) for k in range(N)], judge=given)
    assert "judged by different judges" in gate(tmp_path / "j", tmp_path / "k", {"long": "not-worse:50"})["text"]


def test_a_criterion_for_one_task_goes_before_its_groups(models: tuple[Path, Path]) -> None:
    base, mine = models
    got = gate(mine, base, {"long": "better"}, {"needle": "not-worse:50"})
    assert [(check["criterion"], check["passed"]) for check in got["checks"]] == [("not-worse:50", True)]


def test_two_results_of_one_task_and_odd_criteria_are_errors(models: tuple[Path, Path], tmp_path: Path) -> None:
    base, mine = models
    write(mine / "again", "needle", share(1))
    with pytest.raises(RunError, match="several results of needle"):
        gate(base, mine, {"long": "better"})
    with pytest.raises(ConfigError, match="`best` is no criterion"):
        gate(base, base, {"long": "best"})
    with pytest.raises(ConfigError, match="needs a criterion"):
        gate(base, base, {})
    with pytest.raises(RunError, match="no such folder"):
        gate(base, tmp_path / "none", {"long": "better"})


@pytest.mark.slow
def test_the_exit_code_says_it_and_the_output_is_one_line(models: tuple[Path, Path]) -> None:
    base, mine = map(str, models)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "longalign", "eval", "gate", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    passed = run(base, mine, "--long", "better", "--short", "not-worse:2")
    assert (passed.returncode, passed.stdout.count("\n")) == (0, 1)
    failed = run(mine, base, "--long", "better", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["passed"] is False
    for wrong in (["--long", "best"], ["--task", "needle"], [], ["--failed", "maybe", "--long", "better"]):
        assert run(base, mine, *wrong).returncode == 2, wrong
