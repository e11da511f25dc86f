"""The verbs of the recipe. No logic here: each verb builds its settings and calls its stage.

Every setting of a verb can be given as `--key value` (`--rope.method yarn`), whether or not it has a short
form below. With `--json` stdout carries one JSON object and nothing else; people read stderr.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from longalign.cli.data import app as data_app
from longalign.cli.eval import app as eval_app
from longalign.cli.options import (
    EXTRA,
    Failed,
    FailedAs,
    Json,
    MaxSteps,
    Model,
    Out,
    PlanOnly,
    Restart,
    Seed,
    SettingsFile,
    Strategy,
    Weighting,
    Window,
    row_files,
    settings,
    show,
)
from longalign.cli.ranks import fail
from longalign.errors import LongAlignError

LIST_OPTIONS = ("--documents", "--text", "--data", "--eval-data", "--eval_data", "--haystack", "--decontaminate")
INTERRUPTED = 130
app = typer.Typer(
    help="Long-context alignment: extend, data, train, eval, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show the settings that a recipe resolves to.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(eval_app, name="eval")
app.add_typer(config_app, name="config")


@app.command(**EXTRA)
def extend(
    context: typer.Context,
    out: Out,
    model: Model = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="files or folders of documents")] = None,
    window: Window = None,
    rope_base_factor: Annotated[float | None, typer.Option(help="factor on the RoPE base (paper: 200)")] = None,
    max_steps: MaxSteps = None,
    seed: Seed = None,
    plan_only: PlanOnly = False,
    restart: Restart = False,
    as_json: Json = False,
    file: SettingsFile = None,
) -> None:
    """Extend a model's context: stretch RoPE, then train on long text; run again to resume."""
    from longalign.config import ExtendSettings

    short = {"model": model, "text": text, "window": window, "max_steps": max_steps, "seed": seed}
    rope = {} if rope_base_factor is None else {"rope": {"method": "base", "base_factor": rope_base_factor}}
    wanted = settings(ExtendSettings, context, short | rope, file)
    from longalign.train.extend import extend as stage

    show(stage(wanted, out, plan_only=plan_only, restart=restart), as_json)


@app.command(**EXTRA)
def plan(
    context: typer.Context,
    lengths: Annotated[str | None, typer.Option("--lengths", help=".npy of sequence lengths in tokens")] = None,
    targets: Annotated[str | None, typer.Option("--targets", help=".npy of target tokens per sequence")] = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="row files, in place of --lengths")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="for --data; default: the rows' length_tokens")] = None,
    window: Window = None,
    ranks: Annotated[int | None, typer.Option("--ranks", help="number of accelerators")] = None,
    sequences_per_step: Annotated[int | None, typer.Option(help="sequences in one optimizer step")] = None,
    strategy: Strategy = None,
    model_shape: Annotated[str | None, typer.Option(help="a named shape (7b) or a model directory")] = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write plan, report and picture to")] = None,
    as_json: Json = False,
) -> None:
    """Predict a training run from lengths: steps, idle time, memory, hours."""
    from longalign.config import PlanSettings
    from longalign.plan.report import plan as stage
    from longalign.plan.text import plan_summary

    short = {
        "lengths": lengths,
        "targets": targets,
        "data": row_files(data),
        "tokenizer": tokenizer,
        "window": window,
        "ranks": ranks,
        "sequences_per_step": sequences_per_step,
        "strategy": strategy,
        "model_shape": model_shape,
        "seed": seed,
    }
    show(plan_summary(stage(settings(PlanSettings, context, short), out)), as_json)


@app.command(**EXTRA)
def train(
    context: typer.Context,
    out: Out,
    model: Model = None,
    data: Annotated[list[str] | None, typer.Option("--data", help="row files, or {FILE: {weight: 0.3}}")] = None,
    window: Window = None,
    strategy: Strategy = None,
    weighting: Weighting = None,
    max_steps: MaxSteps = None,
    seed: Seed = None,
    plan_only: PlanOnly = False,
    restart: Restart = False,
    as_json: Json = False,
    file: SettingsFile = None,
) -> None:
    """Fine-tune on conversations, each counting once; run again to resume."""
    from longalign.config import TrainSettings

    short = {
        "model": model,
        "data": row_files(data),
        "window": window,
        "strategy": strategy,
        "weighting": weighting,
        "max_steps": max_steps,
        "seed": seed,
    }
    wanted = settings(TrainSettings, context, short, file)
    from longalign.train.sft import train as stage

    show(stage(wanted, out, plan_only=plan_only, restart=restart), as_json)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="run folders or stage folders")],
    out: Annotated[Path, typer.Option("--out", help="FILE.html to write")],
    failed: Failed = FailedAs.left_out,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page from result files."""
    from longalign.report.page import report as stage

    show(stage(folders, out, failed=failed.value), as_json)


@app.command(**EXTRA)
def run(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="recipe YAML")],
    out: Annotated[Path | None, typer.Option("--out", help="run folder; default runs/NAME")] = None,
    documents: Annotated[
        list[str] | None, typer.Option("--documents", help="your documents, for all data sets and `extend`")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="apply the recipe's `full` settings")] = False,
    plan_only: PlanOnly = False,
    restart: Restart = False,
    as_json: Json = False,
) -> None:
    """Run a whole recipe from one YAML file; run again to resume."""
    from longalign.config.load import load_run, parse_overrides
    from longalign.recipe.run import run as pipeline

    overrides = parse_overrides(context.args)
    resolved, _ = load_run(recipe, overrides, full=full, documents=documents)
    show(pipeline(resolved, out or Path("runs") / resolved.name, plan_only=plan_only, restart=restart), as_json)


@app.command(**EXTRA)
def ask(
    context: typer.Context,
    question: str,
    document: Annotated[Path, typer.Option("--document", help="file to ask about")],
    model: Annotated[str, typer.Option("--model", help="directory, hub id, openai:MODEL@BASE_URL or anthropic:MODEL")],
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "--max_new_tokens", help="longest answer in tokens, thoughts included")
    ] = 512,
    window: Window = None,
    as_json: Json = False,
) -> None:
    """Ask a model one question about one document."""
    from longalign.config.request import RequestSettings
    from longalign.eval.ask import ask as stage

    extras = settings(RequestSettings, context, {})
    answer = stage(model, document, question, max_new_tokens=max_new_tokens, window=window, extras=extras)
    if answer["notice"]:
        print(f"note: {answer['notice']}", file=sys.stderr)
    print(json.dumps(answer, ensure_ascii=False) if as_json else answer["answer"])


@config_app.command("show", **EXTRA)
def config_show(
    context: typer.Context,
    recipe: Path,
    full: Annotated[bool, typer.Option("--full", help="apply the recipe's `full` settings")] = False,
    as_json: Json = False,
) -> None:
    """Print every setting of a recipe and where its value comes from, defaults included."""
    from longalign.config.load import load_run, parse_overrides

    _, sources = load_run(recipe, parse_overrides(context.args), full=full)
    if as_json:
        print(json.dumps({key: {"value": value, "source": source} for key, (value, source) in sources.items()}))
    else:
        width = max(map(len, sources))
        for key, (value, source) in sources.items():
            print(f"{key:<{width}}  {json.dumps(value, ensure_ascii=False)}  # {source}")


def spread_lists(arguments: Sequence[str]) -> list[str]:
    """`--data a b` -> `--data a --data b`, for the options that take several values."""
    out: list[str] = []
    current = ""
    for position, argument in enumerate(arguments):
        if argument.startswith("-"):
            current = argument if argument in LIST_OPTIONS else ""
        elif current and position and arguments[position - 1] != current:
            out.append(current)
        out.append(argument)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: user errors end with one or two lines on stderr and exit code 2."""
    try:
        code = app(spread_lists(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
        if code == INTERRUPTED:  # typer catches Ctrl-C and returns this
            raise KeyboardInterrupt
        if code:
            sys.exit(code)
    except LongAlignError as error:
        fail("" if error.printed_elsewhere else str(error))
    except typer.TyperException as error:
        fail(error.format_message())  # empty where the help was shown for want of a verb
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted; the same command carries on", file=sys.stderr, flush=True)
        from longalign.llm.dialogue import CALLING

        if any(thread.name.startswith(CALLING) for thread in threading.enumerate()):
            sys.stdout.flush()
            os._exit(INTERRUPTED)  # Python would wait for calls under way, perhaps for minutes
        sys.exit(INTERRUPTED)
