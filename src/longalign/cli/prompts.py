"""The verbs of `longalign data prompts`. No logic here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longalign.cli.options import Json, show

prompts_app = typer.Typer(help="Prompts of one's own.", no_args_is_help=True)


@prompts_app.callback()
def prompts() -> None:
    """Prompts of one's own."""


@prompts_app.command("init")
def prompts_init(
    folder: Path,
    language: Annotated[
        list[str] | None, typer.Option("--language", help="ISO 639-1 code, may be repeated; default: all built-in ones")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the built-in prompt files into a folder, to edit."""
    from longalign.llm.prompt_init import write_prompts

    show(write_prompts(folder, language or ()), as_json)
