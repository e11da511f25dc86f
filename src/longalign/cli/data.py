"""The verbs of `longalign data`: build rows, show them, export paid calls. No logic here, as in `verbs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from longalign.cli.options import EXTRA, Json, PlanOnly, Seed, settings, show
from longalign.cli.prompts import prompts_app
from longalign.cli.rows import add_row_verbs

app = typer.Typer(help="Build long instruction data, choose, show and share it.", no_args_is_help=True)


@app.command("build", **EXTRA)
def data_build(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="FILE.jsonl, its other files go beside it; or a folder")],
    documents: Annotated[list[str] | None, typer.Option("--documents", help="files or folders")] = None,
    llm: Annotated[
        str | None, typer.Option("--llm", help="offline | openai:MODEL@BASE_URL | anthropic:MODEL | model directory")
    ] = None,
    rows: Annotated[int | None, typer.Option("--rows", help="rows to build (accepted ones)")] = None,
    seed: Seed = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Build long instruction rows from documents: a model writes questions and answers."""
    from longalign.config import DataSettings
    from longalign.data.build import build as stage

    short = {"documents": documents, "llm": llm, "rows": rows, "seed": seed}
    show(stage(settings(DataSettings, context, short), out, plan_only=plan_only), as_json)


@app.command("show")
def data_show(
    file: Path,
    rows: Annotated[int | None, typer.Option("--rows", help="rows to show (3; with --json all)")] = None,
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="also mark which tokens are targets")] = None,
    chat_template: Annotated[str | None, typer.Option("--chat_template", help="FILE.jinja, as in train")] = None,
    train_on: Annotated[Literal["all", "last"], typer.Option("--train_on", help="as in train")] = "all",
    thinking: Annotated[Literal["keep", "strip"], typer.Option("--thinking", help="as in train")] = "keep",
    as_json: Json = False,
) -> None:
    """Print rows as conversations and mark the tokens that carry loss."""
    from longalign.data.show import show_rows

    how = {"train_on": train_on, "thinking": thinking}
    show_rows(file, rows=rows, tokenizer=tokenizer, chat_template=chat_template, as_json=as_json, **how)


@app.command("ledger")
def data_ledger(
    place: Annotated[Path, typer.Argument(help="run folder, built row file or ledger")],
    out: Annotated[Path, typer.Option("--out", help="FILE.jsonl to write")],
    as_json: Json = False,
) -> None:
    """Export paid calls as JSON lines: reply, tokens, cost."""
    from longalign.llm.ledger_export import export_calls

    show(export_calls(place, out), as_json)


add_row_verbs(app)
app.add_typer(prompts_app, name="prompts")
