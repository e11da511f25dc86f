"""The verbs of `longalign eval`. Each also takes any other key of its task or of `EvalSettings` as `--key value`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from longalign.cli.options import EXTRA, Failed, FailedAs, Json, Out, PlanOnly, Seed, given, settings, show
from longalign.cli.options import Model as LocalModel
from longalign.errors import ConfigError

app = typer.Typer(help="Evaluate a model, compare two models, test a judge.", no_args_is_help=True)
Model = Annotated[
    str | None, typer.Option("--model", help="directory, hub id, openai:MODEL@BASE_URL or anthropic:MODEL")
]
FewShots = Annotated[str | None, typer.Option("--few-shots", help="human-scored examples")]
Judge = Annotated[str | None, typer.Option("--judge", help="offline | openai:MODEL@BASE_URL | anthropic:MODEL")]


@app.command("needle", **EXTRA)
def eval_needle(
    context: typer.Context,
    out: Out,
    model: Model = None,
    lengths: Annotated[str | None, typer.Option("--lengths", help="prompt lengths in tokens: 512,1024")] = None,
    form: Annotated[str | None, typer.Option("--form", help="number, sentence, register or uuid")] = None,
    depths: Annotated[int | None, typer.Option("--depths", help="number of depths, from start to end")] = None,
    needles: Annotated[int | None, typer.Option("--needles", help="needles per length and depth")] = None,
    haystack: Annotated[list[str] | None, typer.Option("--haystack", help="documents to hide needles in")] = None,
    seed: Seed = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Find a sentence in long text, by length and depth."""
    own = {"lengths": lengths and whole_numbers(lengths), "form": form, "depths": depths, "needles": needles}
    run_eval(context, "needle", model, own | {"haystack": haystack, "seed": seed}, out, as_json, plan_only)


@app.command("synthetic", **EXTRA)
def eval_synthetic(
    context: typer.Context,
    out: Out,
    model: Model = None,
    tasks: Annotated[str | None, typer.Option("--tasks", help="kinds of questions: single,counting; or all")] = None,
    lengths: Annotated[str | None, typer.Option("--lengths", help="prompt lengths in tokens: 1000,4000")] = None,
    questions: Annotated[int | None, typer.Option("--questions", help="questions of each kind and length")] = None,
    seed: Seed = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Retrieval, tracing, counting, order and more, by length; the effective window."""
    own = {"tasks": tasks and tasks.split(","), "lengths": lengths and whole_numbers(lengths)}
    run_eval(context, "synthetic", model, own | {"questions": questions, "seed": seed}, out, as_json, plan_only)


@app.command("run", **EXTRA)
def eval_run(
    context: typer.Context,
    task: Annotated[str, typer.Option("--task", help="name of a task, or my_package.my_task:MyTask for your own")],
    out: Out,
    model: Model = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Run any task by name, also one of your own (docs/guide/extend-it.md)."""
    run_eval(context, task, model, {}, out, as_json, plan_only)


@app.command("longbench-chat", **EXTRA, help="LongBench-Chat: open questions about long documents, scored by a judge.")
@app.command("chat", **EXTRA, help="Earlier name of longbench-chat.", hidden=True)
@app.command("longbench", **EXTRA, help="LongBench: questions and summaries, scored by a judge.")
@app.command("mt-bench", **EXTRA, help="MT-Bench: short conversations of two turns, scored by a judge.")
def eval_judged(
    context: typer.Context,
    out: Out,
    model: Model = None,
    cases: Annotated[list[str] | None, typer.Option("--cases", help="files of questions (.json, .jsonl)")] = None,
    references: Annotated[str | None, typer.Option("--references", help="MT-Bench: reference answers")] = None,
    few_shots: FewShots = None,
    judge: Judge = None,
    seed: Seed = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """The judged tasks: one command for each."""
    own = {"cases": cases, "references": references, "few_shots": few_shots, "judge": judge, "seed": seed}
    run_eval(context, str(context.info_name).replace("-", "_"), model, own, out, as_json, plan_only)


@app.command("longbench-v1", **EXTRA)
def eval_longbench_v1(
    context: typer.Context,
    out: Out,
    model: Model = None,
    cases: Annotated[list[str] | None, typer.Option("--cases", help="LongBench's data sets (.jsonl)")] = None,
    prompts: Annotated[str | None, typer.Option("--prompts", help="config/dataset2prompt.json")] = None,
    max_lengths: Annotated[str | None, typer.Option("--max-lengths", help="config/dataset2maxlen.json")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="questions per data set, for trial runs")] = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """LongBench with its own prompts, caps and metrics (extra `longbench`)."""
    own = {"cases": cases, "prompts": prompts, "max_lengths": max_lengths, "limit": limit}
    run_eval(context, "longbench_v1", model, own, out, as_json, plan_only)


@app.command("longbench-v2", **EXTRA)
def eval_longbench_v2(
    context: typer.Context,
    out: Out,
    model: Model = None,
    cases: Annotated[list[str] | None, typer.Option("--cases", help="LongBench v2's data.json")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="questions asked, for trial runs")] = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """LongBench v2: one right answer of four."""
    run_eval(context, "longbench_v2", model, {"cases": cases, "limit": limit}, out, as_json, plan_only)


@app.command("short", **EXTRA)
def eval_short(
    context: typer.Context,
    out: Out,
    model: Model = None,
    rows: Annotated[str | None, typer.Option("--rows", help="held-out short rows (.jsonl)")] = None,
    questions: Annotated[int | None, typer.Option("--questions", help="number of questions")] = None,
    seed: Seed = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Short skills with one right answer, which long training may damage."""
    run_eval(context, "short", model, {"rows": rows, "questions": questions, "seed": seed}, out, as_json, plan_only)


@app.command("position", **EXTRA)
def eval_position(
    context: typer.Context,
    out: Out,
    model: LocalModel = None,
    documents: Annotated[list[str] | None, typer.Option("--documents", help="held-out long documents")] = None,
    lengths: Annotated[str | None, typer.Option("--lengths", help="lengths in tokens: 1024,2048,4096")] = None,
    rows: Annotated[str | None, typer.Option("--rows", help="held-out rows about documents (.jsonl)")] = None,
    questions: Annotated[int | None, typer.Option("--questions", help="rows whose answers are scored")] = None,
    seed: Seed = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Loss by position in long documents, and of answers with and without their document (local models)."""
    own = {"documents": documents, "lengths": lengths and whole_numbers(lengths), "rows": rows}
    run_eval(context, "position", model, own | {"questions": questions, "seed": seed}, out, as_json, plan_only)


@app.command("leaderboard", **EXTRA)
def eval_leaderboard(
    context: typer.Context,
    out: Out,
    model: LocalModel = None,
    limit: Annotated[int | None, typer.Option("--limit", help="questions per task, for trial runs")] = None,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """ARC, HellaSwag, TruthfulQA and MMLU by lm-evaluation-harness (extra `leaderboard`)."""
    run_eval(context, "leaderboard", model, {"limit": limit}, out, as_json, plan_only)


@app.command("judge", **EXTRA)
def eval_judge(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write to")] = None,
    scored: Annotated[Path | None, typer.Option("--scored", help="folder of a finished judged task")] = None,
    human: Annotated[Path | None, typer.Option("--human", help="human scores of it: .jsonl of key, score")] = None,
    cases: Annotated[str | None, typer.Option("--cases", help="cases with human-scored examples")] = None,
    few_shots: FewShots = None,
    judge: Judge = None,
    as_json: Json = False,
) -> None:
    """Test a judge against human scores: of the cases' examples, or of your answers (--scored, --human)."""
    from longalign.config import ChatSettings
    from longalign.eval.validate import against_people, validate_judge

    if scored and human:
        show(against_people(scored, human), as_json)
        return
    if out is None:
        raise ConfigError("give --out FOLDER for the self-test, or --scored FOLDER and --human FILE")
    short = {"cases": cases, "few_shots": few_shots, "judge": judge}
    show(validate_judge(settings(ChatSettings, context, short), out), as_json)


@app.command("compare")
def eval_compare(
    first: Annotated[Path, typer.Argument(help="folder of one evaluated task")],
    second: Annotated[Path, typer.Argument(help="folder of the same task on another model")],
    out: Annotated[Path | None, typer.Option("--out", help="FILE.json to write")] = None,
    failed: Failed = FailedAs.left_out,
    as_json: Json = False,
) -> None:
    """Compare two models question by question, with intervals and p-values."""
    from longalign.eval.compare import compare

    show(compare(first, second, out, failed.value), as_json)


@app.command("gate")
def eval_gate(
    base: Annotated[Path, typer.Argument(help="folder with evaluations of the model to hold against")],
    mine: Annotated[Path, typer.Argument(help="folder with the same evaluations of yours")],
    long: Annotated[str | None, typer.Option("--long", help="better | not-worse:POINTS, for each long task")] = None,
    short: Annotated[str | None, typer.Option("--short", help="the same for each short task")] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="the same for one task: NAME=CRITERION")] = None,
    failed: Failed = FailedAs.left_out,
    as_json: Json = False,
) -> None:
    """Pass or fail a model in CI: exit code 0 or 1, and 2 where the command cannot be understood."""
    from longalign.eval.gate import gate

    named = dict(_named(text) for text in task or [])
    found = gate(base, mine, given({"long": long, "short": short}), named, failed.value)
    show(found, as_json)
    if not found["passed"]:
        raise typer.Exit(1)


def _named(text: str) -> tuple[str, str]:
    name, equals, criterion = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"`{text}` names no task; write NAME=better or NAME=not-worse:2")
    return name, criterion


@app.command("export")
def eval_export(
    folder: Annotated[Path, typer.Argument(help="folder of one finished task")],
    form: Annotated[str, typer.Option("--form", help="csv, parquet, inspect or lm-eval")],
    out: Annotated[Path, typer.Option("--out", help="FILE to write")],
    as_json: Json = False,
) -> None:
    """Write questions, answers and figures in the form of another tool."""
    from longalign.eval.export import export

    show(export(folder, form, out), as_json)


def run_eval(
    context: typer.Context,
    name: str,
    model: str | None,
    own: dict[str, Any],
    out: Path,
    as_json: bool,
    plan_only: bool = False,
) -> None:
    """One task; other keys of its settings and of EvalSettings may follow as `--key value`."""
    from longalign.config import EvalSettings
    from longalign.config.load import nest, parse_overrides
    from longalign.eval.evaluate import evaluate
    from longalign.eval.registry import RESERVED, as_settings

    typed = parse_overrides(context.args)
    common = {key: value for key, value in typed.items() if key.partition(".")[0] in RESERVED}
    inner = {key: value for key, value in typed.items() if key not in common}
    values = as_settings(name, given(own) | nest(inner)) | nest(common) | given({"model": model})
    wanted = settings(EvalSettings, None, values)
    if plan_only:
        from longalign.recipe.plan_eval import plan_of_eval

        show(plan_of_eval(wanted), as_json)
    else:
        show(evaluate(wanted, out), as_json)


def whole_numbers(text: str) -> list[int]:
    """`512,1024` -> [512, 1024]."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"`{text}` is not a list of whole numbers; write 512,1024") from None
