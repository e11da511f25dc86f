"""The data part: lengths of what was trained on, packs as they ran, and throughput by batching strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from longalign.core.step_plan import StepPlan
from longalign.errors import LongAlignError
from longalign.report.bars import bar_chart, length_histogram
from longalign.report.collect import Findings, Stage
from longalign.report.packs import packs_svg
from longalign.report.training_section import arm
from longalign.report.words import duration, thousands

STRATEGIES = ("padded", "sorted", "packed", "balanced")


@dataclass(frozen=True)
class DataSection:
    """What the template shows: drawings with a heading and a line of figures each."""

    lengths: tuple[tuple[str, str, Markup], ...]
    packs: tuple[tuple[str, str, Markup], ...]


@dataclass(frozen=True)
class ThroughputSection:
    """Bars of one measurement, and what they were measured on."""

    place: str
    drawing: Markup
    sentence: str


def data_section(stages: Sequence[Stage]) -> DataSection | None:
    """`stages`: those of `extend` and `train`; one for each name, seeds look alike. None where there are no tokens."""
    first = list({arm(stage): stage for stage in reversed(stages)}.values())[::-1]
    found = {arm(stage): lengths for stage in first if (lengths := _lengths(stage)) is not None}
    reach = (min(int(n.min()) for n in found.values()), max(int(n.max()) for n in found.values())) if found else (1, 1)
    drawn = []
    for number, (name, lengths) in enumerate(found.items()):
        line = f"{len(lengths):,} sequences, {int(lengths.sum()):,} tokens, median {int(np.median(lengths)):,}"
        drawn.append((name, line, length_histogram(lengths, reach, title=f"sequence lengths of {name}", colour=number)))
    plans = [(arm(stage), plan) for stage in first if (plan := _plan(stage)) is not None and len(plan)]
    packs = [(name, _pack_line(plan), Markup(packs_svg(plan, plan.rules.cost))) for name, plan in plans]
    return DataSection(tuple(drawn), tuple(packs)) if drawn or packs else None


def _lengths(stage: Stage) -> NDArray[np.int64] | None:
    """Tokens of each sequence of a stage's token store."""
    offsets = stage.folder / "tokens" / "offsets.npy"
    lengths = np.diff(np.load(offsets, allow_pickle=False)) if offsets.exists() else np.zeros(0, dtype=np.int64)
    return lengths if len(lengths) else None


def throughput_section(findings: Findings) -> list[ThroughputSection]:
    """Measured throughput of the batching strategies on the same rows."""
    return [_throughput(place, found) for place, found in findings.throughput if _strategies(found)]


def _plan(stage: Stage) -> StepPlan | None:
    path = stage.folder / "plan.npz"
    try:
        return StepPlan.load(path) if path.exists() else None
    except LongAlignError:  # a plan of another version: the page does without its picture
        return None


def _pack_line(plan: StepPlan) -> str:
    rules = plan.rules
    return (
        f"{rules.strategy}, window {rules.window:,}, {rules.sequences_per_step} sequences a step, {len(plan):,} steps"
    )


def _strategies(found: dict[str, Any]) -> list[str]:
    measured = [name for name, row in found.items() if isinstance(row, dict) and "tokens_per_s" in row]
    return sorted(measured, key=lambda name: STRATEGIES.index(name) if name in STRATEGIES else len(STRATEGIES))


def _throughput(place: str, found: dict[str, Any]) -> ThroughputSection:
    names = _strategies(found)
    base = found[names[0]]["tokens_per_s"]
    rows = []
    for name in names:
        rate = found[name]["tokens_per_s"]
        label = f"{thousands(rate)} tokens/s" + (f" ({rate / base:.1f}×)" if name != names[0] else "")
        rows.append((name, float(rate), label))
    best = max(names, key=lambda name: found[name]["tokens_per_s"])
    times = found[best]["tokens_per_s"] / base
    seconds = [f"{name} {duration(found[name]['wall_s'])}" for name in names if "wall_s" in found[name]]
    sentence = f"{best} is {times:.1f} times as fast as {names[0]} on the same rows" if best != names[0] else ""
    drawing = bar_chart(rows, title="tokens per second by batching strategy")
    return ThroughputSection(place, drawing, "; ".join([part for part in (sentence, ", ".join(seconds)) if part]))
