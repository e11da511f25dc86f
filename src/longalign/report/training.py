"""Training on the page: losses by step, held-out losses by length band and source, and what each run took.

`data_section` shows the lengths that were trained on and the packs; `throughput_section` compares strategies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from longalign.core.step_plan import StepPlan
from longalign.core.strategies import STRATEGIES
from longalign.data.mix import COLUMNS, cells, shares_in
from longalign.errors import LongAlignError
from longalign.eval.results import HEADLINES
from longalign.plan.picture import packs_svg
from longalign.report.collect import Findings
from longalign.report.drawing import (
    Axis,
    Point,
    Series,
    bar_chart,
    legend,
    length_histogram,
    line_chart,
    round_ticks,
    smooth,
    thin,
)
from longalign.report.stage import Stage
from longalign.report.words import decimal, duration, thousands

SEED_PART = re.compile(r"[-/_]?seed-?\d+\b")


@dataclass(frozen=True)
class TrainingSection:
    """The values that the template shows: charts as (heading, drawing, legend), and a line for each run.

    Of tasks asked while training, and of held-out losses: (heading, what its lines are, drawing, legend).
    """

    charts: tuple[tuple[str, Markup, Markup], ...]
    tasks: tuple[tuple[str, str, Markup, Markup], ...]
    heldout: tuple[tuple[str, str, Markup, Markup], ...]
    rows: tuple[tuple[str, ...], ...]
    unfinished: tuple[str, ...]


def training_section(stages: Sequence[Stage]) -> TrainingSection | None:
    """`stages`: those of `extend` and `train`. None where none has measured anything."""
    measured = [stage for stage in stages if any("loss" in row for row in stage.metrics)]
    if not measured:
        return None
    kinds: dict[str, list[Stage]] = {}
    for stage in measured:
        kinds.setdefault(
            {"extend": "context extension", "train": "fine-tuning"}.get(stage.name, stage.name), []
        ).append(stage)
    return TrainingSection(
        tuple((kind, *_losses(kind, group)) for kind, group in kinds.items()),
        tuple(curves for stage in _one_a_name(measured) for curves in _tasks(stage)),
        tuple(curves for stage in _one_a_name(measured) for curves in _heldout(stage)),
        tuple(_row(stage) for stage in stages),
        tuple(stage.place for stage in stages if not stage.done),
    )


def arm(stage: Stage) -> str:
    """The name of a training run without its seed."""
    return SEED_PART.sub("", stage.place) or stage.place


def _one_a_name(stages: Sequence[Stage]) -> list[Stage]:
    return list({arm(stage): stage for stage in reversed(stages)}.values())[::-1]


def _losses(kind: str, stages: Sequence[Stage]) -> tuple[Markup, Markup]:
    names = list(dict.fromkeys(arm(stage) for stage in stages))
    series = []
    for stage in stages:
        points = [
            Point(row["step"], row["loss"], tip=f"{stage.place}, step {row['step']}: {row['loss']:.4f}")
            for row in stage.metrics
            if "loss" in row
        ]
        colour = names.index(arm(stage))
        series.append(Series(stage.place, thin(points), colour, faint=True, marks=False))
        series.append(Series(stage.place, thin(smooth(points)), colour, marks=False))
    drawing = _drawing(series, "step", "loss", f"training loss of {kind} by step")
    return drawing, legend([(name, number) for number, name in enumerate(names)])


def _tasks(stage: Stage) -> Iterator[tuple[str, str, Markup, Markup]]:
    """What was asked while training: a line for all questions of a task, and one for each of its groups."""
    rows = [row for row in stage.metrics if "tasks" in row]
    best = (stage.manifest.get("summary") or {}).get("best")
    chosen = f"; the weights of step {best['step']} are the best by {best['by']}" if best else ""
    for task in dict.fromkeys(name for row in rows for name in row["tasks"]):
        lines: dict[str, list[Point]] = {}
        groups = ""
        for row in rows:
            for key, value in row["tasks"].get(task, {}).items():
                groups = key if key.startswith("by_") else groups
                shown = value if key.startswith("by_") else {"all": value} if key in HEADLINES else {}
                for name, share in shown.items():
                    if share is not None:
                        point = Point(row["step"], share, tip=f"{task} {name}, step {row['step']}: {share:.3f}")
                        lines.setdefault(name, []).append(point)
        if lines:
            series = [Series(name, thin(points), number) for number, (name, points) in enumerate(lines.items())]
            drawing = _drawing(series, "step", task, f"{task} of {arm(stage)} while it trained")
            what = f"{task}, {groups.replace('_', ' ')}{chosen}" if groups else f"{task}{chosen}"
            yield arm(stage), what, drawing, legend([(name, number) for number, name in enumerate(lines)])


def _heldout(stage: Stage) -> Iterator[tuple[str, str, Markup, Markup]]:
    """Learning curves: a line a length band, and a line a source where there are several."""
    by_source = _curves(stage, "by_source")
    for what, curves in (("length in tokens", _curves(stage, "by_length")), ("source", by_source)):
        if curves and (curves is not by_source or len(curves) > 1):
            series = [Series(name, thin(points), number) for number, (name, points) in enumerate(curves.items())]
            drawing = _drawing(series, "step", "held-out loss", f"held-out loss of {arm(stage)} by {what}")
            yield arm(stage), what, drawing, legend([(name, number) for number, name in enumerate(curves)])


def _curves(stage: Stage, kind: str) -> dict[str, list[Point]]:
    """Held-out loss by step for each group of a kind: bands from short to long, sources by name."""
    lines: dict[str, list[Point]] = {}
    for row in stage.metrics:
        for name, loss in (row.get("heldout") or {}).get(kind, {}).items():
            point = Point(row["step"], loss, tip=f"{name}, step {row['step']}: {loss:.4f}")
            lines.setdefault(name, []).append(point)
    return {name: lines[name] for name in sorted(lines, key=_first_number if kind == "by_length" else None)}


def _first_number(band: str) -> int:
    return int(re.findall(r"\d+", band)[0])


def _drawing(series: Sequence[Series], across: str, up: str, title: str) -> Markup:
    xs = [p.x for s in series for p in s.points]
    ys = [p.y for s in series for p in s.points]
    low, high = min(ys), max(ys)
    margin = 0.05 * (high - low) or 0.5
    low, high = max(0.0, low - margin), high + margin
    x = Axis(min(xs), max(xs), round_ticks(min(xs), max(xs)), across)
    return line_chart(series, x, Axis(low, high, round_ticks(low, high), up), title=title)


def _row(stage: Stage) -> tuple[str, ...]:
    summary = stage.manifest.get("summary") or {}
    settings = stage.manifest["settings"]
    rows = [row for row in stage.metrics if "loss" in row]
    return (
        stage.place,
        f"{settings.get('strategy')}, {settings.get('weighting')}",
        thousands(summary.get("steps") or len(rows)),
        thousands(summary.get("sequences")),
        decimal(summary.get("final_loss"), 3),
        thousands(summary.get("target_tokens_per_s")),
        duration(summary.get("train_s")) if stage.done else "not finished",
    )


ORDER = tuple(STRATEGIES)


@dataclass(frozen=True)
class DataSection:
    """The values that the template shows: drawings with a heading and a line of figures each; tables of mixes."""

    lengths: tuple[tuple[str, str, Markup], ...]
    packs: tuple[tuple[str, str, Markup], ...]
    mixes: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    columns: tuple[str, ...] = COLUMNS


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
    shares = [(arm(stage), shares_in(stage.manifest.get("summary") or {})) for stage in first]
    mixes = [(name, tuple(map(cells, mix))) for name, mix in shares if mix]
    return DataSection(tuple(drawn), tuple(packs), tuple(mixes)) if drawn or packs or mixes else None


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
    return sorted(measured, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


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
