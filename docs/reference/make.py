"""Writes settings.md beside this file from the settings classes: `make reference`. A test holds the two together."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from longalign import config
from longalign.base.decides import decides
from longalign.config.base import NameIn

PAGE = Path(__file__).with_name("settings.md")
SECTIONS: tuple[tuple[str, type[config.Settings]], ...] = (
    ("Batching", config.BatchingSettings),
    ("Execution", config.ExecutionSettings),
    ("Optimizer", config.OptimizerSettings),
    ("Adapters", config.AdapterSettings),
    ("Rows", config.RowSettings),
    ("Mix", config.MixSettings),
    ("Portion", config.Portion),
    ("Every training loop", config.LoopSettings),
    ("Early stop: `early_stop` of a training loop", config.EarlyStopSettings),
    ("Extend: `longalign extend`, `extend:` in a recipe", config.ExtendSettings),
    ("RoPE: `rope` of extend", config.RopeSettings),
    ("Documents", config.DocumentSettings),
    ("Questions", config.QuestionSettings),
    ("Requests", config.RequestSettings),
    ("Data: `longalign data build`, a set under `data:`", config.DataSettings),
    ("Preferences: `longalign data preferences`", config.PreferenceSettings),
    ("Train: `longalign train`, `train:` and its arms", config.TrainSettings),
    ("Plan: `longalign plan`", config.PlanSettings),
    ("Tasks", config.TaskSettings),
    ("Evaluate: `longalign eval`, `eval:`", config.EvalSettings),
    ("Needles: `eval needle`, `eval.needle`", config.NeedleSettings),
    ("Synthetic suite: `eval synthetic`, `eval.synthetic`", config.SyntheticSettings),
    ("LongBench v1: `eval longbench-v1`, `eval.longbench_v1`", config.LongBenchV1Settings),
    ("LongBench v2: `eval longbench-v2`, `eval.longbench_v2`", config.LongBenchV2Settings),
    ("Short skills: `eval short`, `eval.short`", config.ShortSettings),
    ("Judged: `eval longbench-chat`, `longbench`, `mt-bench`", config.ChatSettings),
    ("Loss by position: `eval position`, `eval.position`", config.PositionSettings),
    ("Leaderboard: `eval leaderboard`, `eval.leaderboard`", config.LeaderboardSettings),
    ("Recipe: `longalign run`", config.RunSettings),
    ("What is not here yet: `assume` of a recipe", config.AssumedLengths),
)
MARKS = {"result": "", "execution": "E", "reporting": "R"}


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        "# Settings\n\nEvery key of a recipe (YAML) and, with two dashes before it, every option of a command: "
        "`--train.learning_rate 1e-4` in `longalign run`, `--learning_rate 1e-4` in `longalign train`. "
        "An option without a value is true: `--activation_offload`. "
        "`longalign config show RECIPE` prints what a recipe comes to. Made from the code by `make reference`.\n\n"
        "The column after the key says what a setting decides: **E**, how something is computed (memory, speed, "
        "money); **R**, what is reported; nothing, the result. Only the last restart a stage when they change.\n"
    ]
    parts += [_section(title, cls) for title, cls in SECTIONS]
    return "\n".join(parts)


def _section(title: str, cls: type[config.Settings]) -> str:
    """A table of the keys that a class has and no section above it, and links to those it shares with others."""
    above = [(name, other) for name, other in SECTIONS if other is not cls and issubclass(cls, other)]
    others = [other for _, other in above]
    shared = [f"[{name.lower()}](#{name.lower().replace(' ', '-')})" for name, _ in above]
    about = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
    about += f" Also all keys of {', '.join(shared)}." if shared else ""
    rows = [
        f"| `{key}` | {MARKS[decides(cls, key)]} | {_kind(field)} | {_default(field)} | {_text(field)} |"
        for key, field in cls.model_fields.items()
        if key in cls.__annotations__ or not any(key in other.model_fields for other in others)
    ]
    table = "\n".join(["| key | | value | default | what it does |", "|---|---|---|---|---|", *rows])
    earlier = [f"`{old}` is read as `{alias.new}`" for old, alias in cls.aliases.items()]
    return f"## {title}\n\n{about}\n\n{table}\n" + (f"\nEarlier names: {', '.join(earlier)}.\n" if earlier else "")


def _kind(field: FieldInfo) -> str:
    """What a setting takes, as a person writes it."""
    names = [mark.mapping for mark in field.metadata if isinstance(mark, NameIn)]
    return ", ".join(f"`{name}`" for name in names[0]) if names else _type(field.annotation)


def _type(annotation: Any) -> str:
    """A type as a person writes it."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin is tuple:
        if inside[1:] == (Ellipsis,):
            return f"list of {_type(inside[0])}"
        return "list of " + ", ".join(_type(part) for part in inside)
    if origin is dict:
        return f"{_type(inside[0])} to {_type(inside[1])}"
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in inside)
    if annotation is type(None):
        return "null"
    if annotation is Any:
        return "anything"
    names = {bool: "true, false", int: "whole number", float: "number", str: "text"}
    return names.get(annotation, "keys of its own, see its section")


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, config.Settings):
        return "its defaults"
    if value is None or value == () or value == {}:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{value}`"


def _text(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
