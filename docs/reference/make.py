"""Writes settings.md beside this file from the settings classes: `make reference`. A test holds the two together."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from longalign import config

PAGE = Path(__file__).with_name("settings.md")
LOOP = config.LoopSettings
SECTIONS = (
    ("Every training loop", LOOP),
    ("Extend: `longalign extend`, `extend:` in a recipe", config.ExtendSettings),
    ("RoPE: `rope` of extend", config.RopeSettings),
    ("Data: `longalign data build`, a set under `data:`", config.DataSettings),
    ("Train: `longalign train`, `train:` and its arms", config.TrainSettings),
    ("Plan: `longalign plan`", config.PlanSettings),
    ("Evaluate: `longalign eval`, `eval:`", config.EvalSettings),
    ("Needles: `eval needle`, `eval.needle`", config.NeedleSettings),
    ("Short skills: `eval short`, `eval.short`", config.ShortSettings),
    ("Judged: `eval longbench-chat`, `longbench`, `mt-bench`", config.ChatSettings),
    ("Leaderboard: `eval leaderboard`, `eval.leaderboard`", config.LeaderboardSettings),
    ("Recipe: `longalign run`", config.RunSettings),
    ("What is not here yet: `assume` of a recipe", config.AssumedLengths),
)


def page() -> str:
    """The whole page as Markdown."""
    parts = [
        "# Settings\n\nEvery key of a recipe (YAML) and, with two dashes before it, every option of a command: "
        "`--train.learning_rate 1e-4` in `longalign run`, `--learning_rate 1e-4` in `longalign train`. "
        "An option without a value is true: `--activation_offload`. "
        "`longalign config show RECIPE` prints what a recipe comes to. Made from the code by `make reference`.\n"
    ]
    for title, cls in SECTIONS:
        shared = issubclass(cls, LOOP) and cls is not LOOP
        fields = {k: f for k, f in cls.model_fields.items() if not shared or k in cls.__annotations__}
        about = (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")
        about += " Also all keys of [every training loop](#every-training-loop)." if shared else ""
        rows = [f"| `{k}` | {_kind(f.annotation)} | {_default(f)} | {_text(f)} |" for k, f in fields.items()]
        table = "\n".join(["| key | value | default | what it does |", "|---|---|---|---|", *rows])
        parts.append(f"## {title}\n\n{about}\n\n{table}\n")
    return "\n".join(parts)


def _kind(annotation: Any) -> str:
    """A type as a person writes it."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin is tuple:
        if inside[1:] == (Ellipsis,):
            return f"list of {_kind(inside[0])}"
        return "list of " + ", ".join(_kind(part) for part in inside)
    if origin is dict:
        return f"{_kind(inside[0])} to {_kind(inside[1])}"
    if origin in (Union, UnionType):
        return " or ".join(_kind(part) for part in inside)
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
