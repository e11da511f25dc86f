"""An option given twice: the last one counts, and settings that hold several values take all. For every setting."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longalign import config
from longalign.config import RunSettings, Settings
from longalign.config.load import build, load_run, nest, parse_overrides, settle
from longalign.recipe.arms import arm_rows

VERBS = {
    "extend": config.ExtendSettings,
    "data": config.DataSettings,
    "plan": config.PlanSettings,
    "train": config.TrainSettings,
    "eval": config.EvalSettings,
    "run": config.RunSettings,
}


def section(annotation: Any) -> type[Settings] | None:
    """A section, or None for a value."""
    kinds = typing.get_args(annotation) if typing.get_origin(annotation) in (types.UnionType, typing.Union) else ()
    return next((kind for kind in (annotation, *kinds) if isinstance(kind, type) and issubclass(kind, Settings)), None)


def options(cls: type[Settings], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, annotation) of every setting below a class."""
    for name, field in cls.model_fields.items():
        inner = section(field.annotation)
        if inner is not None:
            yield from options(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.annotation


def holds_several(verb: str, name: str, annotation: Any) -> bool:
    kinds = [annotation, *typing.get_args(annotation)]
    of_files = {"run": ("train.data", "extend.data"), "extend": ("data",), "train": ("data",), "plan": ("data",)}
    return name in of_files.get(verb, ()) or any(typing.get_args(kind)[1:] == (Ellipsis,) for kind in kinds)


@pytest.mark.parametrize("verb", VERBS)
def test_an_option_given_twice(verb: str) -> None:
    """Regression: `['1e-3', '1e-4']: input should be a valid number`."""
    for name, annotation in options(VERBS[verb]):
        typed = parse_overrides([f"--{name}", "first", f"--{name.replace('_', '-')}=second"])
        wanted = ["first", "second"] if holds_several(verb, name, annotation) else "second"
        assert settle(VERBS[verb], nest(typed)) == nest({name: wanted}), name


def test_the_last_number_counts_and_both_lists_do() -> None:
    typed = ["--learning_rate", "1e-3", "--learning-rate", "1e-4", "--rope.factor", "2", "--rope.factor=4"]
    typed += ["--data", "a.jsonl", "--data", "{b.jsonl: {weight: 2}}", "--text", "[x, y]", "--text", "z"]
    found = build(config.ExtendSettings, settle(config.ExtendSettings, nest(parse_overrides(typed))), "command line")
    assert (found.learning_rate, found.rope.factor, found.text) == (1e-4, 4.0, ("x", "y", "z"))
    assert found.model_dump()["data"] == {"a.jsonl": None, "b.jsonl": {"weight": 2.0}}


def test_a_list_of_files_in_a_recipe_is_read_as_on_the_command_line(tmp_path: Path) -> None:
    (path := tmp_path / "r.yaml").write_text(
        "name: r\ntrain: {data: [a.jsonl, {b.jsonl: {epochs: 2}}], arms: {x: {}, y: {data: c.jsonl}}}\n"
    )
    run, sources = load_run(path, {})
    assert run.train.model_dump(mode="json")["data"] == {"a.jsonl": None, "b.jsonl": {"epochs": 2.0}}
    assert sources["train.data.a.jsonl"] == (None, str(path))
    assert sources["train.window"][1] == "default"
    assert list(arm_rows(run, "x")) == ["a.jsonl", "b.jsonl"]
    assert arm_rows(run, "y") == {"c.jsonl": None}


def test_settings_of_an_arm_are_those_of_training() -> None:
    typed = ["--train.arms.a.learning_rate", "1", "--train.arms.a.learning_rate", "2"]
    typed += ["--train.arms.a.data", "x.jsonl", "--train.arms.a.data", "{y.jsonl: {weight: 2}}"]
    found = settle(RunSettings, nest(parse_overrides(typed)))["train"]["arms"]["a"]
    assert found == {"learning_rate": 2, "data": ["x.jsonl", {"y.jsonl": {"weight": 2}}]}
