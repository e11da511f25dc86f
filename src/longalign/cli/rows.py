"""The verbs of `longalign data` about rows that there are: choose, count, compare, review, share. No logic here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from longalign.cli.options import EXTRA, Json, PlanOnly, settings, show

review_app = typer.Typer(help="Let a person decide about borderline rows.", no_args_is_help=True)
RowsOut = Annotated[Path, typer.Option("--out", help="FILE.jsonl or FILE.parquet to write")]


def add_row_verbs(app: typer.Typer) -> None:
    """Give `longalign data` the verbs of this file."""
    verbs: list[tuple[str, Any]] = [
        ("select", data_select), ("stats", data_stats), ("diff", data_diff), ("merge", data_merge),
        ("sample", data_sample), ("card", data_card), ("push", data_push),
    ]  # fmt: skip
    for name, verb in verbs:
        app.command(name)(verb)
    app.command("preferences", **EXTRA)(data_preferences)
    app.add_typer(review_app, name="review")


def data_select(
    file: Annotated[str, typer.Argument(help="row file, folder of `datasets`, hub:ORG/NAME or builtin:NAME")],
    keep: Annotated[str, typer.Option("--keep", help="rows to keep, or a share: 2000, 0.1, 10%")],
    out: RowsOut,
    model: Annotated[str | None, typer.Option("--model", help="local model directory that scores the rows")] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="criteria, e.g. gain=1,spread=0.5; negative prefers low values")
    ] = None,
    per: Annotated[
        str | None, typer.Option("--per", help="groups that keep their shares: task,language,source,length,...")
    ] = None,
    short_window: Annotated[int, typer.Option("--short_window", min=1, help="tokens of the short context")] = 1024,
    over_window: Annotated[
        Literal["unscored", "fit"], typer.Option("--over_window", help="rows longer than the model's window")
    ] = "unscored",
    alike: Annotated[float, typer.Option("--alike", help="F1 of words from which two questions are alike")] = 0.8,
    min_length_tokens: Annotated[int | None, typer.Option("--min_length_tokens", help="shortest row")] = None,
    max_length_tokens: Annotated[int | None, typer.Option("--max_length_tokens", help="longest row")] = None,
    as_json: Json = False,
) -> None:
    """Keep the rows worth training on, and say why each other one is left out."""
    from longalign.data.choose.context_scores import ScoreHow
    from longalign.data.choose.select import SelectHow, select

    scoring = ScoreHow(model, short_window, over_window) if model else None
    groups = tuple(part.strip() for part in per.split(",")) if per else ()
    how = SelectHow(
        keep=keep, weights=weights, per=groups, alike=alike, scoring=scoring,
        min_length_tokens=min_length_tokens, max_length_tokens=max_length_tokens,
    )  # fmt: skip
    show(select(file, out, how), as_json)


def data_stats(
    files: list[str],
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="count tokens exactly")] = None,
    as_json: Json = False,
) -> None:
    """What files of rows hold: lengths, kinds, languages, evidence, duplicates."""
    from longalign.data.choose.stats import stats, token_counter

    show(stats(files, token_counter(tokenizer) if tokenizer else None), as_json)


def data_diff(a: str, b: str, as_json: Json = False) -> None:
    """Which rows two files share, and how what they hold differs."""
    from longalign.data.choose.diff import diff

    show(diff(a, b), as_json)


def data_merge(files: list[str], out: RowsOut, as_json: Json = False) -> None:
    """Several files as one, each conversation once."""
    from longalign.data.choose.merge import merge

    show(merge(files, out), as_json)


def data_sample(
    file: str,
    n: Annotated[int, typer.Option("--n", min=1, help="rows to draw")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="random seed")] = 0,
    by: Annotated[str | None, typer.Option("--by", help="evenly over groups: task, language, source, length")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="FILE.jsonl or FILE.parquet, in place of the text")] = None,
    as_json: Json = False,
) -> None:
    """A few rows to read, the same ones whatever the order of the file."""
    from longalign.data.choose.sample import sample

    show(sample(file, n=n, seed=seed, by=by.split(",") if by else (), out=out), as_json)


def data_card(file: Path, as_json: Json = False) -> None:
    """Write FILE.card.md: a data set's README, from what is on record beside the rows."""
    from longalign.data.choose.card import card

    show(card(file), as_json)


def data_push(
    file: Path,
    repo: Annotated[str, typer.Option("--repo", help="ORG/NAME on the Hugging Face hub")],
    private: Annotated[bool, typer.Option("--private", help="a data set that only you see")] = False,
    plan_only: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Upload rows and their card to the Hugging Face hub (token: HF_TOKEN)."""
    from longalign.data.choose.push import push

    show(push(file, repo, private=private, plan_only=plan_only), as_json)


def data_preferences(
    context: typer.Context,
    file: str,
    out: RowsOut,
    llm: Annotated[str | None, typer.Option("--llm", help="who gives the rejected answer; as in data build")] = None,
    as_json: Json = False,
) -> None:
    """Rows with two answers to one question, for TRL's DPOTrainer."""
    from longalign.config import PreferenceSettings
    from longalign.data.choose.preferences import preferences

    show(preferences(file, settings(PreferenceSettings, context, {"llm": llm}), out), as_json)


@review_app.command("export")
def review_export(
    file: str,
    out: Annotated[Path, typer.Option("--out", help="FILE.csv or FILE.jsonl to write")],
    n: Annotated[int, typer.Option("--n", min=1, help="rows to look at")] = 50,
    threshold: Annotated[float, typer.Option("--threshold", help="min_support of the build")] = 0.3,
    as_json: Json = False,
) -> None:
    """Write the rows that are nearest to being wrong as a sheet."""
    from longalign.data.choose.review import export_review

    show(export_review(file, out, n=n, threshold=threshold), as_json)


@review_app.command("import")
def review_import(
    file: str,
    sheet: Annotated[Path, typer.Argument(help="the sheet with decisions: .csv or .jsonl")],
    out: RowsOut,
    as_json: Json = False,
) -> None:
    """Apply a sheet's decisions: keep, drop, edit."""
    from longalign.data.choose.review_apply import import_review

    show(import_review(file, sheet, out), as_json)
