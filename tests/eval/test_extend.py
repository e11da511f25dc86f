"""The guide's evaluation, word for word, in a package of its own: command line, comparison, page, recipe."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from longalign.base.files import read_jsonl

pytestmark = pytest.mark.slow

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "extend-it.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("## Add an evaluation")[2].partition("\n## ")[0]


def block(language: str) -> str:
    """The section's one code block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return str(found)


def longalign(*arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(path or "")}
    command = [
        sys.executable,
        "-P",
        "-m",
        "longalign",
        *arguments,
    ]  # -P: as the `longalign` program, without the folder
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=240)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guide's module, where the guide's commands have been typed."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "capitals.py").write_text(block("python"), encoding="utf-8")
    for number, line in enumerate(block("bash").splitlines()):
        done = longalign(*shlex.split(line)[1:], cwd=folder)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        (folder / f"said-{number}").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_guides_task_is_asked_and_scored(place: Path) -> None:
    results = json.loads((place / "runs" / "tiny" / "capitals" / "results.json").read_text(encoding="utf-8"))
    assert (results["task"], results["overall"]["questions"], results["overall"]["failed"]) == ("capitals", 4, 0)
    assert {kind: row["questions"] for kind, row in results["by_kind"].items()} == {"Europe": 2, "Asia": 1, "Africa": 1}
    rows = read_jsonl(place / "runs" / "tiny" / "capitals" / "scores.jsonl")
    assert [row["score"] for row in rows] == [
        float(row["expected"].casefold() in row["answer"].casefold()) for row in rows
    ]
    assert (place / "said-0").read_text(encoding="utf-8").startswith("Capitals of countries of ")


def test_two_models_are_compared_on_the_questions_that_both_were_asked(place: Path) -> None:
    said = (place / "said-2").read_text(encoding="utf-8")
    assert "on 3 questions" in said
    assert "left out: 1 questions" in said
    assert "kind Europe" in said


def test_the_page_shows_it_in_a_table_by_kind(place: Path) -> None:
    page = (place / "runs" / "page.html").read_text(encoding="utf-8")
    part = page.partition('<section id="tasks">')[2].partition("</section>")[0]
    assert "Capitals of countries" in part
    assert re.findall(r"<th>([^<]*)</th>", part) == ["model", "all", "Europe", "Asia", "Africa", *labels(place)]
    assert "What is the capital of Japan?" in page.partition('<section id="samples">')[2]


def labels(place: Path) -> list[str]:
    found = [
        json.loads((place / "runs" / name / "capitals" / "results.json").read_text()) for name in ("tiny", "stand-in")
    ]
    return [results["label"] for results in found]


def test_the_same_command_again_asks_nothing_and_takes_a_new_label(place: Path) -> None:
    folder = place / "runs" / "stand-in" / "capitals"
    before = (folder / "answers.jsonl").stat().st_mtime_ns, (folder / "scores.jsonl").stat().st_mtime_ns
    line = block("bash").splitlines()[1].replace("stand-in --questions", "renamed --questions")
    done = longalign(*shlex.split(line)[1:], "--model_seed", "7", cwd=place)
    assert done.stderr == ""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert (results["label"], results["model_seed"]) == ("renamed", 7)
    assert before == ((folder / "answers.jsonl").stat().st_mtime_ns, (folder / "scores.jsonl").stat().st_mtime_ns)
    longalign(*shlex.split(block("bash").splitlines()[1])[1:], cwd=place)  # back, for the tests beside
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["label"] == "stand-in"


@pytest.mark.slow
def test_a_recipe_measures_every_model_on_it_and_plans_it(place: Path) -> None:
    recipe = f"name: x\nmodel: builtin:tiny-base\n{block('yaml')}"
    (place / "r.yaml").write_text(recipe, encoding="utf-8")
    planned = longalign("run", "r.yaml", "--plan-only", "--json", cwd=place)
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["eval"]["parts"]["capitals"]["questions"] == 3
    done = longalign("run", "r.yaml", "--out", "run", cwd=place)
    assert done.returncode == 0, done.stderr
    results = json.loads((place / "run" / "results.json").read_text(encoding="utf-8"))
    assert results["capitals"]["base"]["questions"] == 3
    assert (place / "run" / "eval" / "base" / "capitals" / "scores.jsonl").exists()
    assert "Capitals of countries" in (place / "run" / "report.html").read_text(encoding="utf-8")
    wrong = longalign("run", "r.yaml", "--out", "other", "--eval.tasks.capitals.questoins", "2", cwd=place)
    assert wrong.returncode == 2
    assert "eval.tasks.capitals: unknown key `questoins` (did you mean `questions`?)" in wrong.stderr
    assert not (place / "other" / "eval").exists()


def test_an_installed_package_offers_it_by_name(place: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    about = site / "capitals-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "capitals.py").write_text(block("python"), encoding="utf-8")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: capitals\nVersion: 1.0\n", encoding="utf-8")
    point = block("toml").splitlines()[1].replace('"', "")
    (about / "entry_points.txt").write_text(f"[longalign.tasks]\n{point}\n", encoding="utf-8")
    typed = ["eval", "run", "--task", "capitals", "--model", "offline", "--out", "out", "--json"]
    done = longalign(*typed, cwd=tmp_path, path=site)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["overall"]["questions"] == 4
    typed[3] = "capitels"
    unknown = longalign(*typed, cwd=tmp_path, path=site)
    assert "there is no task `capitels` (did you mean `capitals`?)" in unknown.stderr
