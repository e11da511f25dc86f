"""Shared by all verbs: common options, settings built from options, and printing a summary."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longalign.errors import ConfigError

if TYPE_CHECKING:
    from longalign.config import Settings


class FailedAs(StrEnum):
    """Values of `--failed`."""

    left_out = "left_out"
    wrong = "wrong"


EXTRA: dict[str, Any] = {  # for commands that take every setting
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
    "epilog": "Any other setting: --key value (docs/reference/settings.md)",
}
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on stdout and nothing else")]
Out = Annotated[Path, typer.Option("--out", help="folder (or file) to write to")]
Model = Annotated[str | None, typer.Option("--model", help="model directory or hub id")]
Window = Annotated[int | None, typer.Option("--window", help="maximum context in tokens")]
Strategy = Annotated[str | None, typer.Option("--strategy", help="padded, sorted, packed or balanced")]
Weighting = Annotated[str | None, typer.Option("--weighting", help="sequence (the paper), token, sqrt, plain_packing")]
MaxSteps = Annotated[int | None, typer.Option("--max-steps", help="stop after this many optimizer steps")]
Seed = Annotated[int | None, typer.Option("--seed", help="random seed")]
SettingsFile = Annotated[Path | None, typer.Option("--settings", hidden=True)]  # JSON, from `longalign run`
Restart = Annotated[bool, typer.Option("--restart", help="start over where a setting changed; old outputs are kept")]
Failed = Annotated[FailedAs, typer.Option("--failed", help="questions without an answer: left_out or wrong")]
PlanOnly = Annotated[bool, typer.Option("--plan-only", help="print what would run and what it costs, then stop")]


def settings(
    cls: type[Settings], context: typer.Context | None, short: dict[str, Any], file: Path | None = None
) -> Any:
    """Settings from a JSON file if there is one, the short forms that were given, then `--key value` overrides."""
    from longalign.config.load import build, merge, nest, parse_overrides, settle

    overrides = settle(cls, nest(parse_overrides(context.args))) if context else {}
    try:
        stored = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: no settings can be read from it ({error})") from None
    return build(cls, merge(merge(stored, given(short)), overrides), "command line")


def row_files(names: list[str] | None) -> list[Any] | None:
    """Values of `--data`: names of files, or `{FILE: {weight: 0.3}}`."""
    from longalign.config.load import parse_value

    return [parse_value("data", name) if name.startswith("{") else name for name in names] if names else None


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def show(summary: dict[str, Any], as_json: bool) -> None:
    """The summary of a stage: one JSON object, or its `text`, or its keys and values; from the first process only."""
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        print(json.dumps({key: value for key, value in summary.items() if key != "text"}, ensure_ascii=False))
    elif "text" in summary:
        print(summary["text"])
    else:
        for key, value in summary.items():
            print(f"{key}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value}")
