"""The plan of a recipe as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from longalign.data.mix import mix_lines
from longalign.plan.text import quiet_console, table, text_of
from longalign.recipe.planned import PlannedData, PlannedEval, PlannedTraining, RunPlan


def run_plan_summary(plan: RunPlan) -> dict[str, Any]:
    """The summary that `longalign run --plan-only` prints: the plan's JSON, and `text` for people."""
    return {**plan.as_dict(), "text": run_plan_text(plan)}


def run_plan_text(plan: RunPlan) -> str:
    """Tables of a recipe's plan, without colour."""
    console = quiet_console(130)
    model = f"{plan.model} ({plan.parameters / 1e9:.2f}B parameters)"
    console.print(f"{plan.name}: {model} on {plan.ranks} x {plan.machine}, {_seeds(plan.seeds)}")
    if plan.data:
        console.print(_data(plan.data))
    if plan.trainings:
        console.print(_training(plan.trainings))
        console.print(_memory(plan.trainings))
    for name, row in plan.trainings.items():
        for line in mix_lines(row.report.mix):
            console.print(f"{name}: {line}", soft_wrap=True)
    if plan.eval.plan.tasks:
        console.print(_eval(plan.eval))
    totals = plan.totals
    console.print(
        f"total: {totals.training_hours:,.1f} h of training, {totals.accelerator_hours:,.0f} accelerator hours, "
        f"{_money(totals.cost_usd)} for endpoints"
    )
    for note in plan.notes:
        console.print(f"- {note}", soft_wrap=True)
    return text_of(console)


def _data(sets: Mapping[str, PlannedData]) -> Table:
    shown = table("Data", "set", "rows", "LLM", "calls", "tokens in", "tokens out", "money")
    for name, row in sets.items():
        counts = (row.calls, row.prompt_tokens, row.completion_tokens)
        shown.add_row(name, _count(row.rows), row.llm.split("@")[0], *map(_count, counts), _money(row.cost_usd))
    return shown


def _training(runs: Mapping[str, PlannedTraining]) -> Table:
    shown = table(
        "Training, for one seed", "run", "strategy", "rows", "tokens", "targets", "steps", "packs", "FLOPs", "idle",
        "s / step", "hours",
    )  # fmt: skip
    for name, row in runs.items():
        report = row.report
        shown.add_row(
            name,
            f"{report.strategy} {report.layout}",
            f"{report.rows.sequences:,} x {report.rows.epochs}",
            _count(row.tokens),
            _count(row.targets),
            f"{row.steps:,}",
            f"{row.packs:,}",
            f"{row.flops:.2e}",
            f"{report.time.idle_fraction:.0%}",
            f"{report.time.step_seconds.mean:.3g}",
            f"{row.hours:,.3g}" if row.hours < 100 else f"{row.hours:,.0f}",
        )
    return shown


def _memory(runs: Mapping[str, PlannedTraining]) -> Table:
    shown = table("Memory of a rank", "run", "window", "tokens", "GB", "of", "", "largest window that fits")
    for name, row in runs.items():
        memory = row.report.memory
        shown.add_row(
            name,
            f"{row.report.window:,}",
            f"{memory.tokens_per_rank:,}",
            f"{memory.bytes_per_rank / 1e9:.1f}",
            f"{memory.machine_bytes / 1e9:.0f}",
            "fits" if memory.fits else "DOES NOT FIT",
            _largest(row.report.layout, memory.largest.largest_window),
        )
    shown.columns[-1].justify = "left"
    return shown


def _largest(layout: str, windows: Mapping[str, int]) -> str:
    """The largest window of the run's layout, and of the layout that reaches furthest."""
    furthest = max(windows, key=lambda name: windows[name])
    shown = dict.fromkeys((layout, furthest))
    return ", ".join(f"{windows[name]:,} with {name}" for name in shown if name in windows)


def _eval(planned: PlannedEval) -> Table:
    plan = planned.plan
    title = f"Evaluation of {plan.models} models, reading takes {planned.accelerator_hours:.1f} h on one"
    shown = table(title, "task", "questions", "prompt tokens", "judge calls", "judge tokens", "money")
    for name, row in plan.tasks.items():
        judged = ["", "", ""]
        if judge := plan.judge.get(name):
            tokens = judge.prompt_tokens + judge.completion_tokens
            judged = [_count(judge.calls), _count(tokens), _money(judge.cost_usd)]
        shown.add_row(name, _count(row.questions), _count(row.prompt_tokens), *judged)
    return shown


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
