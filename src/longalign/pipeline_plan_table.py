"""The plan of a recipe as text for people."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table


def run_plan_text(summary: Mapping[str, Any]) -> str:
    """Tables of a recipe's plan (the dict of `longalign.pipeline_plan.plan_run`), without colour."""
    console = Console(file=io.StringIO(), width=130, no_color=True, highlight=False, emoji=False, markup=False)
    model = f"{summary['model']} ({summary['parameters'] / 1e9:.2f}B parameters)"
    console.print(
        f"{summary['name']}: {model} on {summary['ranks']} x {summary['machine']}, {_seeds(summary['seeds'])}"
    )
    if summary["data"]:
        console.print(_data(summary["data"]))
    training = ({"extend": summary["extend"]} if summary["extend"] else {}) | dict(summary["arms"])
    if training:
        console.print(_training(training))
        console.print(_memory(training))
    if summary["eval"]["parts"]:
        console.print(_eval(summary["eval"]))
    totals = summary["totals"]
    console.print(
        f"total: {totals['training_hours']:,.1f} h of training, {totals['accelerator_hours']:,.0f} accelerator hours, "
        f"{_money(totals['cost_usd'])} for endpoints"
    )
    for note in summary["notes"]:
        console.print(f"- {note}", soft_wrap=True)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _data(sets: Mapping[str, Any]) -> Table:
    table = _table("Data", "set", "rows", "LLM", "calls", "tokens in", "tokens out", "money")
    for name, row in sets.items():
        calls = [_count(row[key]) for key in ("calls", "prompt_tokens", "completion_tokens")]
        table.add_row(name, _count(row["rows"]), row["llm"].split("@")[0], *calls, _money(row["cost_usd"]))
    return table


def _training(runs: Mapping[str, Any]) -> Table:
    table = _table(
        "Training, for one seed", "run", "strategy", "rows", "tokens", "targets", "steps", "packs", "FLOPs", "idle",
        "s / step", "hours",
    )  # fmt: skip
    for name, row in runs.items():
        table.add_row(
            name,
            f"{row['strategy']} {row['layout']}",
            f"{row['sequences']:,} x {row['epochs']}",
            _count(row["tokens"]),
            _count(row["targets"]),
            f"{row['steps']:,}",
            f"{row['packs']:,}",
            f"{row['flops']:.2e}",
            f"{row['idle_fraction']:.0%}",
            f"{row['step_s']:.3g}",
            f"{row['hours']:,.3g}" if row["hours"] < 100 else f"{row['hours']:,.0f}",
        )
    return table


def _memory(runs: Mapping[str, Any]) -> Table:
    table = _table("Memory of a rank", "run", "window", "tokens", "GB", "of", "", "largest window that fits")
    for name, row in runs.items():
        memory = row["memory"]
        table.add_row(
            name,
            f"{row['window']:,}",
            f"{memory['tokens_per_rank']:,}",
            f"{memory['bytes_per_rank'] / 1e9:.1f}",
            f"{memory['machine_bytes'] / 1e9:.0f}",
            "fits" if memory["fits"] else "DOES NOT FIT",
            _largest(row["layout"], memory["largest_window"]),
        )
    table.columns[-1].justify = "left"
    return table


def _largest(layout: str, windows: Mapping[str, int]) -> str:
    """The largest window of the run's layout, and of the layout that reaches furthest."""
    furthest = max(windows, key=lambda name: windows[name])
    shown = dict.fromkeys((layout, furthest))
    return ", ".join(f"{windows[name]:,} with {name}" for name in shown if name in windows)


def _eval(evaluation: Mapping[str, Any]) -> Table:
    title = f"Evaluation of {evaluation['models']} models, reading takes {evaluation['accelerator_hours']:.1f} h on one"
    table = _table(title, "part", "questions", "prompt tokens", "judge calls", "judge tokens", "money")
    for name, row in evaluation["parts"].items():
        judged = ["", "", ""]
        if judge := evaluation["judge"].get(name):
            tokens = judge["prompt_tokens"] + judge["completion_tokens"]
            judged = [_count(judge["calls"]), _count(tokens), _money(judge["cost_usd"])]
        table.add_row(name, _count(row["questions"]), _count(row["prompt_tokens"]), *judged)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    return table


def _count(number: int | None) -> str:
    if number is None:
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.4g}{letter}"
    return f"{number:,}"


def _money(cost_usd: float | None) -> str:
    return "no price given" if cost_usd is None else f"${cost_usd:,.2f}"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
