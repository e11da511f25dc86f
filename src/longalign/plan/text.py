"""The plan report as text for people."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from longalign.core.memory import RankMemory
from longalign.core.strategies import strategy_of
from longalign.core.timing import LayoutOption
from longalign.data.mix import mix_lines
from longalign.plan.figures import GroupShare, MemoryNeed, PlanReport


def plan_summary(report: PlanReport) -> dict[str, Any]:
    """The summary that the verb prints: the report's JSON, and `text` for people."""
    return {**report.as_dict(), "text": plan_text(report)}


def plan_text(report: PlanReport) -> str:
    """Tables of a plan report, 100 columns wide, without colour."""
    console = quiet_console(100)
    console.print(_overview(report))
    if len(report.layouts) > 1:
        console.print(_layouts(report.layouts))
    console.print(_windows(report.memory))
    console.print(_shares(report.by_length, "length"))
    if len(report.by_source) > 1:
        console.print(_shares(report.by_source, "source"))
    for note in _notes(report):
        console.print(f"- {note}", soft_wrap=True)
    return text_of(console)


def quiet_console(width: int) -> Console:
    """One that keeps plain text."""
    return Console(file=io.StringIO(), width=width, no_color=True, highlight=False, emoji=False, markup=False)


def text_of(console: Console) -> str:
    """What was printed on a `quiet_console`."""
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def table(title: str, *columns: str) -> Table:
    """The first column to the left, numbers to the right."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, name in enumerate(columns):
        made.add_column(name, justify="left" if number == 0 else "right")
    return made


def _overview(r: PlanReport) -> Table:
    shown = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    sizes, memory, rows, packs, time = r.sequences_per_step, r.memory, r.rows, r.packs, r.time
    lines = {
        "strategy": f"{r.strategy}, layout {r.layout} on {r.ranks} ranks ({r.machine}, {r.model_shape})",
        "sequences": f"{rows.sequences:,} x {rows.epochs} epochs, {rows.tokens:,} tokens, {rows.targets:,} targets",
        "steps": f"{r.steps:,} of {sizes.min:,}-{sizes.max:,} sequences (mean {sizes.mean:.1f})",
        "microbatches": f"{packs.packs:,}, {packs.sequences_per_pack:.1f} sequences each, "
        f"efficiency {packs.pack_efficiency:.2%}, {packs.padding_tokens:,} pad tokens",
        "time of ranks": f"useful {time.useful_fraction:.1%}, idle {time.idle_fraction:.1%}, "
        f"communication {time.communication_fraction:.1%}, padding {time.padding_fraction:.1%}",
        "estimate": f"{time.step_seconds.mean:.3g} s a step, {time.hours:.3g} h in all, {time.flops:.3g} FLOPs, "
        f"MFU {time.mfu:.1%}",
        "over padded": f"{r.speedup_over_padded:.2f} times as fast",
        "memory": f"{memory.bytes_per_rank / 1e9:.1f} GB a rank of {memory.machine_bytes / 1e9:.0f} GB"
        + ("" if memory.fits else ": DOES NOT FIT"),
        "memory parts": _parts(memory.parts),
        "plan": f"{r.plan_hash[:16]} in {r.plan_seconds:.2f} s",
    }
    for name, value in lines.items():
        shown.add_row(name, value)
    return shown


def _parts(parts: RankMemory) -> str:
    shown = {
        "states": parts.states,
        "weights in use": parts.weights_in_use,
        "checkpoints": parts.checkpoints,
        "one layer": parts.layer,
        "reserve": parts.reserve,
    }
    said = [
        f"{name} {value / 1e9:.1f}" + (f" (loss {parts.head / 1e9:.1f})" if name == "one layer" else "")
        for name, value in shown.items()
    ]
    return ", ".join(said) + (f"; {parts.host / 1e9:.1f} GB of host memory" if parts.host else "")


def _windows(memory: MemoryNeed) -> Table:
    shown = table("Largest window, by what is set", "set", *memory.largest.largest_window, "host GB a rank")
    for name, row in {"as asked": memory.largest, **memory.savings}.items():
        windows = (f"{tokens:,}" for tokens in row.largest_window.values())
        shown.add_row(name, *windows, f"{row.host_bytes_per_rank / 1e9:,.0f}")
    return shown


def _layouts(options: Sequence[LayoutOption]) -> Table:
    shown = table("Layouts", "layout", "s / step", "idle", "communication", "fits")
    for option in options:
        if option.time is None:
            shown.add_row(option.name, option.reason)
        else:
            shown.add_row(
                option.name,
                f"{option.time.step_s_S.mean():.3g}",
                f"{option.time.idle:.1%}",
                f"{option.time.communication:.1%}",
                "yes" if option.fits else "no",
            )
    return shown


def _shares(groups: Sequence[GroupShare], label: str) -> Table:
    modes = list(groups[0].gradient_share)
    names = (mode.replace("_", " ") for mode in modes)
    shown = table(f"Share of the gradient by {label}", label, "sequences", "tokens", *names)
    for group in groups:
        shares = (f"{group.gradient_share[mode]:.1%}" for mode in modes)
        shown.add_row(group.name, f"{group.sequences:,}", f"{group.token_share:.1%}", *shares)
    return shown


def _notes(r: PlanReport) -> list[str]:
    rows = r.rows
    notes = [f"lengths from {rows.lengths_from}", *mix_lines(r.mix)]
    if rows.row_counts:
        counts = ", ".join(f"{name} {number:,}" for name, number in rows.row_counts.items())
        notes.append(f"rows treated before planning ({rows.overlong_rule} above {r.window:,} tokens): {counts}")
    if rows.sequences_without_targets:
        notes.append(f"{rows.sequences_without_targets:,} sequences have no targets and do not count in the loss")
    bias = r.length_bias
    if bias and bias.variance_ratio > 1 + 4 * bias.standard_error:
        notes.append(
            f"steps are not random samples: mean lengths of steps vary {bias.variance_ratio:.1f} times as much as "
            f"by chance (1 +- {bias.standard_error:.2f}); `balanced` and `padded` are free of this"
        )
    if strategy_of(r.strategy).microbatches == "balanced":
        notes.append(
            f"microbatches of `{r.strategy}` have no fixed size (mean {r.packs.microbatch_fill:.0%} of the token "
            "limit): with variable-length attention nothing is padded"
        )
    return notes
