"""Two models under one label are never averaged, and questions that are asked twice are no more questions."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from longalign.config import EvalSettings, ShortSettings
from longalign.eval.evaluate import evaluate
from longalign.eval.identity import identity
from longalign.report.collect import collect
from longalign.report.needle import needle_grid
from longalign.report.page import report
from tests.report.conftest import write_needle, write_short

ALL, NONE = (1.0,) * 5, (0.0,) * 5


def is_model(folder: Path, fingerprint: str, seed: int | None = None) -> None:
    """Let the results of a folder be of a model with this fingerprint."""
    for name in ("results.json", "stage.json"):
        value = json.loads((folder / name).read_text())
        value |= {"identity": fingerprint, "model_seed": seed} if name == "results.json" else {}
        if name == "stage.json":
            value["inputs"]["model"] = fingerprint
            value["settings"]["model"] = f"models/{fingerprint}"
        (folder / name).write_text(json.dumps(value))


@pytest.mark.parametrize("seed", [None, 3])
def test_two_models_under_one_label_are_two_rows_with_a_note(tmp_path: Path, seed: int | None) -> None:
    for name, rates in (("aaa", ALL), ("bbb", NONE)):
        write_needle(tmp_path / name / "needle", "perfect", rates, seed)
        write_short(tmp_path / name / "short", "perfect", rates[0], seed)
        is_model(tmp_path / name / "needle", name, seed)
        is_model(tmp_path / name / "short", name, seed)
    found = collect([tmp_path])
    names = ["perfect (models/aaa)", "perfect (models/bbb)"]
    assert list(found.evaluated("needle")) == list(found.evaluated("short")) == names
    got = report([tmp_path], tmp_path / "page.html")
    assert "perfect (models/aaa) finds 100%" in got["verdict"]
    assert "perfect (models/bbb) 0%" in got["verdict"]
    text = (tmp_path / "page.html").read_text()
    assert "`perfect` names 2 different models" in text
    assert "2 seeds" not in text


def test_seeds_that_differ_are_one_model(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_needle(tmp_path / str(seed), "m", ALL, seed)
        is_model(tmp_path / str(seed), f"trained with {seed}", seed)
    (stages,) = collect([tmp_path]).evaluated("needle").values()
    grid = needle_grid("m", stages)
    assert (grid.seeds, grid.overall.scored, grid.overall.seeds) == (2, 200, (1.0, 1.0))
    one = needle_grid("m", stages[:1])
    assert (grid.overall.low, grid.overall.high) == (one.overall.low, one.overall.high)


def test_the_same_questions_to_the_same_model_count_once(tmp_path: Path) -> None:
    write_needle(tmp_path / "first", "m", ALL, None)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    found = collect([tmp_path])
    ((name, stages),) = found.evaluated("needle").items()
    assert (name, len(stages)) == ("m", 1)
    (note,) = found.systems.notes
    assert note == "m was asked the questions of needle 2 times; left out: first"


def test_other_questions_to_the_same_model_have_a_row_of_their_own(tmp_path: Path) -> None:
    for questions in (8, 12):
        out = tmp_path / f"{questions:02}"
        evaluate(EvalSettings(model="offline", label="m", short=ShortSettings(questions=questions)), out)
    found = collect([tmp_path])
    assert list(found.evaluated("short")) == ["m", "m, 12"]
    assert "each set has its own row" in found.systems.notes[0]


def test_one_model_with_and_without_a_seed_is_one_model(tmp_path: Path) -> None:
    write_needle(tmp_path / "a", "m", ALL, 1)
    write_short(tmp_path / "b", "m", 0.5, None)
    is_model(tmp_path / "a", "x", 1)
    is_model(tmp_path / "b", "x", None)
    found = collect([tmp_path])
    assert list(found.evaluated("needle")) == list(found.evaluated("short")) == ["m"]


def test_identity_is_the_model_and_how_it_is_asked_but_not_its_label_or_how_fast() -> None:
    plain = EvalSettings(model="openai:m@http://localhost:1/v1", short=ShortSettings())
    same = plain.model_copy(update={"label": "x", "model_seed": 4, "concurrency": 2, "short": ShortSettings(seed=9)})
    assert identity(plain) == identity(same)
    for other in ({"model": "openai:m@http://localhost:2/v1"}, {"tokenizer": "somewhere"}):
        assert identity(plain) != identity(plain.model_copy(update=other))


def test_results_carry_the_identity_of_their_model(tmp_path: Path) -> None:
    settings = EvalSettings(model="offline", short=ShortSettings(questions=4))
    assert evaluate(settings, tmp_path / "a")["identity"] == identity(settings)
    assert asdict(collect([tmp_path]).stages[0])["manifest"]["inputs"]["model"] == identity(settings)
