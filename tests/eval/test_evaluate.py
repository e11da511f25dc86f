"""The eval stage: the parts that are set, each in its place, and a summary for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longalign.config import ChatSettings, EvalSettings, NeedleSettings, Settings, ShortSettings
from longalign.errors import ConfigError, ModelError
from longalign.eval.evaluate import evaluate, run_task
from longalign.eval.task import ExactTask, Question
from longalign.eval.token_view import TokenView
from longalign.report.page import report


def test_several_parts_on_a_local_model_and_the_page_about_them(
    tiny_model: Path, documents: Path, tmp_path: Path
) -> None:
    settings = EvalSettings(
        model=str(tiny_model),
        label="tiny",
        needle=NeedleSettings(lengths=(256,), depths=2, haystack=(str(documents),), max_new_tokens=4),
        short=ShortSettings(questions=7, max_new_tokens=4),
        chat=ChatSettings(questions=2, case_tokens=300, documents=(str(documents),), max_new_tokens=16),
    )
    got = evaluate(settings, tmp_path / "eval")
    assert json.loads((tmp_path / "eval" / "results.json").read_text()).keys() == {"needle", "short", "longbench_chat"}
    for part in ("needle", "short", "longbench_chat"):
        assert json.loads((tmp_path / "eval" / part / "results.json").read_text())["task"] == part
        assert got[part]["label"] == "tiny"
    assert got["longbench_chat"]["overall"]["cut"] == 2  # its window of 256 cannot hold the documents
    for words in ("needle retrieval of tiny", "short skills of tiny", "longbench_chat score of tiny", "offline judge"):
        assert words in got["text"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("answers.jsonl")}
    assert evaluate(settings, tmp_path / "eval") == got
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("answers.jsonl")} == before
    page = report([tmp_path], tmp_path / "page.html")
    assert page["missing"] == ["training", "data", "throughput"]


def test_a_changed_part_runs_again_alone(tmp_path: Path, documents: Path) -> None:
    chat = ChatSettings(questions=2, case_tokens=300, documents=(str(documents),))
    settings = EvalSettings(model="offline", chat=chat, short=ShortSettings(questions=7))
    evaluate(settings, tmp_path)
    chat_log = (tmp_path / "longbench_chat" / "answers.jsonl").stat().st_mtime_ns
    evaluate(settings.model_copy(update={"short": ShortSettings(questions=14)}), tmp_path)
    assert (tmp_path / "longbench_chat" / "answers.jsonl").stat().st_mtime_ns == chat_log
    assert len((tmp_path / "short" / "answers.jsonl").read_text().splitlines()) == 14
    assert next((tmp_path / "short" / "superseded").iterdir()).is_dir()


def test_nothing_to_do_and_no_model_are_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to evaluate"):
        evaluate(EvalSettings(model="offline"), tmp_path)
    with pytest.raises(ModelError, match="none"):
        evaluate(EvalSettings(model=str(tmp_path / "none"), short=ShortSettings()), tmp_path / "out")


class Careless(Settings):
    """Which mistake the task below makes."""

    mistake: str


class Wrong(ExactTask[Careless, Question]):
    name, title, settings_class = "wrong", "Wrong", Careless

    def questions(self, view: TokenView) -> list[Question]:
        if self.settings.mistake == "questions":
            raise KeyError("context")
        key = "{}" if self.settings.mistake != "keys" else "same"
        return [Question.of(key.format(number), f"{number}?", "0") for number in range(2)]

    def score(self, question: Question, answer: str) -> float:
        return 1 / 0


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("questions", r"task wrong: `questions` failed at .*test_evaluate\.py:\d+: KeyError: 'context'"),
        ("score", r"task wrong: `score` failed at .*test_evaluate\.py:\d+: ZeroDivisionError"),
        ("keys", "task wrong: several questions have the key `same`"),
    ],
)
def test_a_mistake_in_a_task_is_said_with_its_place(mistake: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run_task(Wrong(Careless(mistake=mistake)), EvalSettings(model="offline"), tmp_path)
