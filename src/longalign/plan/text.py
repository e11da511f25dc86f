"""The plan report as text for people.

The plan of a recipe as text for people.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

MODES = {"sequence": "sequence", "sqrt": "sqrt", "token": "token", "plain_packing": "plain packing"}


def plan_text(summary: Mapping[str, Any]) -> str:
    """Tables of a plan summary (the dict of `longalign.plan.plan`), 100 columns wide, without colour."""
    console = Console(file=io.StringIO(), width=100, no_color=True, highlight=False, emoji=False, markup=False)
    console.print(_overview(summary))
    if len(summary["layouts"]) > 1:
        console.print(_layouts(summary))
    console.print(_windows(summary["memory"]))
    console.print(_shares(summary, "by_length", "length"))
    if len(summary["by_source"]) > 1:
        console.print(_shares(summary, "by_source", "source"))
    for note in _notes(summary):
        console.print(f"- {note}", soft_wrap=True)
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _overview(s: Mapping[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    sizes, memory = s["sequences_per_step"], s["memory"]
    lines = {
        "strategy": f"{s['strategy']}, layout {s['layout']} on {s['ranks']} ranks ({s['machine']}, {s['model_shape']})",
        "sequences": f"{s['sequences']:,} x {s['epochs']} epochs, {s['tokens']:,} tokens, {s['targets']:,} targets",
        "steps": f"{s['steps']:,} of {sizes['min']:,}-{sizes['max']:,} sequences (mean {sizes['mean']:.1f})",
        "microbatches": f"{s['packs']:,}, {s['sequences_per_pack']:.1f} sequences each, "
        f"efficiency {s['pack_efficiency']:.2%}, {s['padding_tokens']:,} pad tokens",
        "time of ranks": f"useful {s['useful_fraction']:.1%}, idle {s['idle_fraction']:.1%}, "
        f"communication {s['communication_fraction']:.1%}, padding {s['padding_fraction']:.1%}",
        "estimate": f"{s['step_seconds']['mean']:.3g} s a step, {s['hours']:.3g} h in all, {s['flops']:.3g} FLOPs, "
        f"MFU {s['mfu']:.1%}",
        "over padded": f"{s['speedup_over_padded']:.2f} times as fast",
        "memory": f"{memory['bytes_per_rank'] / 1e9:.1f} GB a rank of {memory['machine_bytes'] / 1e9:.0f} GB"
        + ("" if memory["fits"] else ": DOES NOT FIT"),
        "memory parts": _parts(memory["parts"]),
        "plan": f"{s['plan_hash'][:16]} in {s['plan_seconds']:.2f} s",
    }
    for name, value in lines.items():
        table.add_row(name, value)
    return table


def _parts(parts: Mapping[str, float]) -> str:
    names = {"states": "states", "weights_in_use": "weights in use", "checkpoints": "checkpoints", "reserve": "reserve"}
    shown = [f"{label} {parts[key] / 1e9:.1f}" for key, label in names.items()]
    shown.insert(3, f"one layer {parts['layer'] / 1e9:.1f} (loss {parts['head'] / 1e9:.1f})")
    return ", ".join(shown) + (f"; {parts['host'] / 1e9:.1f} GB of host memory" if parts["host"] else "")


def _windows(memory: Mapping[str, Any]) -> Table:
    table = Table(title="Largest window, by what is set", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("set")
    for name in (*memory["largest_window"], "host GB a rank"):
        table.add_column(name, justify="right")
    for name, row in {"as asked": memory, **memory["with"]}.items():
        windows = (f"{tokens:,}" for tokens in row["largest_window"].values())
        table.add_row(name, *windows, f"{row['host_bytes_per_rank'] / 1e9:,.0f}")
    return table


def _layouts(s: Mapping[str, Any]) -> Table:
    table = Table(title="Layouts", title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("layout", "s / step", "idle", "communication", "fits"):
        table.add_column(name, justify="left" if name == "layout" else "right")
    for option in s["layouts"]:
        if "unusable" in option:
            table.add_row(option["layout"], option["unusable"])
        else:
            table.add_row(
                option["layout"],
                f"{option['step_seconds']:.3g}",
                f"{option['idle_fraction']:.1%}",
                f"{option['communication_fraction']:.1%}",
                "yes" if option["fits"] else "no",
            )
    return table


def _shares(s: Mapping[str, Any], key: str, label: str) -> Table:
    modes = list(s[key][0]["gradient_share"])
    table = Table(title=f"Share of the gradient by {label}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(label)
    for name in ("sequences", "tokens", *(MODES[mode] for mode in modes)):
        table.add_column(name, justify="right")
    for group in s[key]:
        shares = (f"{group['gradient_share'][mode]:.1%}" for mode in modes)
        table.add_row(group["name"], f"{group['sequences']:,}", f"{group['token_share']:.1%}", *shares)
    return table


def _notes(s: Mapping[str, Any]) -> list[str]:
    notes = [f"lengths from {s['lengths_from']}"]
    if s["row_counts"]:
        counts = ", ".join(f"{name} {number:,}" for name, number in s["row_counts"].items())
        notes.append(f"rows treated before planning ({s['overlong_rule']} above {s['window']:,} tokens): {counts}")
    if s["sequences_without_targets"]:
        notes.append(f"{s['sequences_without_targets']:,} sequences have no targets and do not count in the loss")
    bias = s["length_bias"]
    if bias and bias["variance_ratio"] > 1 + 4 * bias["standard_error"]:
        notes.append(
            f"steps are not random samples: mean lengths of steps vary {bias['variance_ratio']:.1f} times as much as "
            f"by chance (1 +- {bias['standard_error']:.2f}); `balanced` and `padded` are free of this"
        )
    if s["strategy"] == "balanced":
        notes.append(
            f"microbatches of `balanced` have no fixed size (mean {s['microbatch_fill']:.0%} of the token limit): "
            "with variable-length attention nothing is padded"
        )
    return notes


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
