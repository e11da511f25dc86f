"""Tasks are found by name or by module and class; what is wrong with one is said in a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from longalign.config import EvalSettings, NeedleSettings, Settings
from longalign.errors import ConfigError
from longalign.eval.registry import TASKS, as_settings, current_name, find_task, key_of, known_tasks, tasks_of
from longalign.eval.results import ModelFacts
from longalign.eval.task import ExactTask, Question, Task
from longalign.eval.token_view import TokenView

MODULE = """
from pydantic import Field
from longalign.config import Settings
from longalign.eval.task import ExactTask

class Own(Settings):
    questions: int = Field(3)

class Taken(Settings):
    label: str = Field("x")

class Good(ExactTask):
    name, title, settings_class = "good", "Good", Own

    def questions(self, view):
        return []

    def score(self, question, answer):
        return 1.0

class Nameless(ExactTask):
    pass

class Unfinished(ExactTask):
    name, title, settings_class = "unfinished", "Unfinished", Own

class Untyped(Good):
    name, settings_class = "untyped", dict

class Double(Good):
    name, title, settings_class = "needle", "Needle", Own

class Reserved(Good):
    name, title, settings_class = "reserved", "Reserved", Taken

something = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"tasks_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_every_listed_task_calls_itself_as_it_is_listed() -> None:
    for name in TASKS:
        cls = find_task(name)
        assert cls.name == name
        assert issubclass(cls.settings_class, Settings)
    assert known_tasks().items() >= TASKS.items()


def test_an_earlier_name_finds_todays_task() -> None:
    assert find_task("chat") is find_task("longbench_chat")
    assert current_name("chat") == "longbench_chat"
    assert EvalSettings.model_validate({"chat": {"questions": 3}}) == EvalSettings.model_validate(
        {"longbench_chat": {"questions": 3}}
    )


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("neeedle", r"no task `neeedle` \(did you mean `needle`\?\)"),
        ("no_such_module:Task", "no_such_module cannot be imported"),
        ("./my_task.py:Task", r"`\./my_task\.py` names no module; write my_package"),
        (":Task", "`` names no module"),
        ("MODULE:Goood", r"`Goood` of \w+ is no Task \(did you mean `Good`\?\)"),
        ("MODULE:something", "`something` of .* is no Task"),
        ("MODULE:Nameless", "Nameless does not set name, title, settings_class"),
        ("MODULE:Unfinished", "Unfinished does not define questions, score"),
        ("MODULE:Untyped", "settings_class of Untyped is no class of longalign.config.Settings"),
        ("MODULE:Double", "`needle` is no name, or that of another task"),
        ("MODULE:Reserved", "`label` is a setting of every evaluation"),
    ],
)
def test_what_is_no_task_is_refused_with_a_reason(module: str, name: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        find_task(name.replace("MODULE", module))


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("1 / 0", r"cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("def (", "SyntaxError: invalid syntax"),
    ],
)
def test_a_module_that_does_not_run_is_an_error_of_one_line(module: str, code: str, complaint: str) -> None:
    name = f"{module}_broken"
    (Path(sys.path[0]) / f"{name}.py").write_text(code)
    with pytest.raises(ConfigError, match=complaint):
        find_task(f"{name}:Task")


def test_tasks_come_in_the_order_of_the_list_with_own_ones_last(module: str) -> None:
    own = {"good": {"task": f"{module}:Good", "questions": 5}, "off": None}
    settings = EvalSettings.model_validate({"tasks": own, "short": {}, "needle": {}})
    found = tasks_of(settings)
    assert [task.name for task in found] == ["needle", "short", "good"]
    assert [key_of(task) for task in found] == ["eval.needle", "eval.short", "eval.tasks.good"]
    assert found[2].settings.model_dump() == {"questions": 5}


@pytest.mark.parametrize(
    ("tasks", "complaint"),
    [
        ({"good": {"task": "MODULE:Good", "questons": 5}}, "eval.tasks.good: unknown key `questons` .*`questions`"),
        ({"better": {"task": "MODULE:Good"}}, "calls itself `good`; write eval.tasks.good"),
        ({"needle": {}}, "write eval.needle, without `tasks`"),
        ({"goood": {}}, "no task `goood`"),
    ],
)
def test_wrong_settings_of_tasks_are_named(module: str, tasks: dict[str, dict[str, str]], complaint: str) -> None:
    placed = {k: {key: str(v).replace("MODULE", module) for key, v in own.items()} for k, own in tasks.items()}
    with pytest.raises(ConfigError, match=complaint):
        tasks_of(EvalSettings.model_validate({"tasks": placed}))


def test_settings_of_one_task_go_where_it_has_its_place(module: str) -> None:
    assert as_settings("chat", {"questions": 2}) == {"longbench_chat": {"questions": 2}}
    assert as_settings(f"{module}:Good", {"questions": 2}) == {
        "tasks": {"good": {"task": f"{module}:Good", "questions": 2}}
    }


def test_a_task_is_a_frozen_value() -> None:
    task: Task[NeedleSettings] = find_task("needle")(NeedleSettings())
    assert task == find_task("needle")(NeedleSettings())
    with pytest.raises(AttributeError):
        task.settings = NeedleSettings(depths=3)  # type: ignore[misc]


class Graded(ExactTask[Settings, Question]):
    name, title, settings_class = "graded", "Graded", Settings

    def questions(self, view: TokenView) -> list[Question]:
        return []

    def score(self, question: Question, answer: str) -> float:
        return 0.5


def test_a_score_between_right_and_wrong_must_be_declared() -> None:
    rows = [{"key": str(n), "kind": "all", "score": score} for n, score in enumerate((0.0, 0.5, None))]
    with pytest.raises(ConfigError, match=r"graded: score 0.5 is neither 0 nor 1; set `graded = True`"):
        Graded(Settings()).summarise(rows, ModelFacts("m"))

    class Declared(Graded):
        graded = True

    got = Declared(Settings()).summarise(rows, ModelFacts("m")).overall
    assert (got.mean, got.scored, got.failed) == (0.25, 2, 1)
