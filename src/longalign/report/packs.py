"""A picture of packs: what every rank holds in a few steps, and when it waits. Inline SVG from a step plan."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

from longalign.core.cost import LLAMA_7B_COST, SequenceCost
from longalign.core.shares import length_bands
from longalign.core.step_plan import Step, StepPlan

WIDTH, LABEL, BAR, GAP = 920, 64, 14, 4
SHADES = ("#c6e5f5", "#9fd0ec", "#74b5df", "#4a97cd", "#2b78b4", "#1b5c94", "#124272", "#0b2a4f")  # short to long
PAD = "#d9d9d9"


def packs_svg(plan: StepPlan, cost: SequenceCost = LLAMA_7B_COST, *, steps: int = 3, most_ranks: int = 16) -> str:
    """One `<svg>` element (no scripts, no outside references) of the first `steps` steps of a plan.

    One bar a data rank; a bar's length is work (FLOPs), so white space at its end is waiting. Each block is a
    sequence, darker when longer; grey is work on pad tokens; a gap starts the next microbatch. Plans of more than
    `most_ranks` data ranks show that many.
    """
    shown = [plan[s] for s in range(min(steps, len(plan)))]
    _, bands = length_bands(plan.lengths_N[:1], plan.rules.window, len(SHADES))
    parts: list[str] = []
    y = 40.0
    widest = max(_work(plan, step, cost).max() for step in shown)
    scale = (WIDTH - LABEL - 20) / widest
    for step in shown:
        sequences = len(step.rows)
        parts.append(_text(0, y, f"step {step.index}: {sequences} sequences, {step.target_count:,} targets"))
        y += 8
        for r, rank in enumerate(step.ranks[:most_ranks]):
            parts.append(_text(0, y + BAR - 3, f"rank {r}"))
            x = float(LABEL)
            for pack in rank.packs:
                blocks, x = _pack(plan, pack, cost, x, y, scale)
                parts.extend(blocks)
            y += BAR + GAP
        if len(step.ranks) > most_ranks:
            parts.append(_text(0, y + BAR - 3, f"and {len(step.ranks) - most_ranks} more ranks"))
            y += BAR + GAP
        y += 22
    title = f"{plan.rules.strategy}: work of {plan.data_ranks} data ranks in {len(shown)} steps"
    legend = _legend(bands, padded=plan.layout == "padded")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="100%" role="img" '
        f'font-family="sans-serif" font-size="11" fill="currentColor"><title>{escape(title)}</title>'
        + "".join(legend)
        + "".join(parts)
        + "</svg>"
    )


def _work(plan: StepPlan, step: Step, cost: SequenceCost) -> np.ndarray:
    """FLOPs of each data rank of a step, pads included."""
    work = []
    for rank in step.ranks:
        total = 0.0
        for pack in rank.packs:
            lengths = plan.lengths_N[list(pack)]
            run = np.full(len(lengths), lengths.max()) if plan.layout == "padded" else lengths
            total += float(cost.flops(run).sum())
        work.append(total)
    return np.array(work)


def _pack(
    plan: StepPlan, pack: Sequence[int], cost: SequenceCost, x: float, y: float, scale: float
) -> tuple[list[str], float]:
    """Blocks of one microbatch from `x` on, and where it ends."""
    lengths = plan.lengths_N[list(pack)]
    bands, _ = length_bands(lengths, plan.rules.window, len(SHADES))
    run = np.full(len(lengths), lengths.max()) if plan.layout == "padded" else lengths
    start, blocks = x, []
    for row, length, band, real, ran in zip(pack, lengths, bands, cost.flops(lengths), cost.flops(run), strict=True):
        width = float(real) * scale
        blocks.append(_block(x, y, width, SHADES[int(band)], f"row {row}: {int(length):,} tokens"))
        if ran > real:
            blocks.append(_block(x + width, y, float(ran - real) * scale, PAD, "padding"))
        x += float(ran) * scale
    blocks.append(
        f'<rect x="{start:.2f}" y="{y}" width="{x - start:.2f}" height="{BAR}" fill="none" stroke="#0b2a4f"/>'
    )
    return blocks, x


def _block(x: float, y: float, width: float, fill: str, tip: str) -> str:
    edge = ' stroke="#fff" stroke-width="0.5"' if width > 2 else ""
    return (
        f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{BAR}" fill="{fill}"{edge}>'
        f"<title>{escape(tip)}</title></rect>"
    )


def _legend(bands: Sequence[str], *, padded: bool) -> list[str]:
    entries = list(zip(SHADES, bands, strict=False)) + ([(PAD, "padding")] if padded else [])
    parts, x = [], 0
    for fill, name in entries:
        parts.append(f'<rect x="{x}" y="2" width="{BAR}" height="{BAR}" fill="{fill}"/>')
        parts.append(_text(x + BAR + 4, 13, name))
        x += 100
    return parts


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y:.1f}">{escape(text)}</text>'
