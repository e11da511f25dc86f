"""A picture of packs as inline SVG: what every rank holds in a few steps, and when it waits."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from longalign.core.length_bands import bands_of_window
from longalign.core.model_shape import LLAMA_7B_COST, SequenceCost
from longalign.core.step_plan import Step, StepPlan

WIDTH, LABEL, BAR, GAP = 920, 64, 14, 4
SHADES = ("#c6e5f5", "#9fd0ec", "#74b5df", "#4a97cd", "#2b78b4", "#1b5c94", "#124272", "#0b2a4f")  # short to long
PAD = "#d9d9d9"


def packs_svg(plan: StepPlan, cost: SequenceCost = LLAMA_7B_COST, *, steps: int = 3, most_ranks: int = 16) -> str:
    """One `<svg>` element (no scripts, no outside references) of the first `steps` steps of a plan.

    One line a data rank; width is work (FLOPs), so white space is waiting. Each block is a sequence, darker when
    longer; grey is work on pad tokens; an outline is a microbatch. Where ranks meet in every microbatch (the plan's
    `sync`), a round starts when the slowest rank has finished the one before. Plans of more than `most_ranks` data
    ranks show that many.
    """
    shown = [plan[s] for s in range(min(steps, len(plan)))]
    starts = [_starts(plan, step, cost) for step in shown]
    scale = (WIDTH - LABEL - 20) / max(end for _, end in starts)
    parts: list[str] = []
    y = 40.0
    for step, (starts_RM, _) in zip(shown, starts, strict=True):
        parts.append(_text(0, y, f"step {step.index}: {len(step.rows)} sequences, {step.target_count:,} targets"))
        y += 8
        for r, rank in enumerate(step.ranks[:most_ranks]):
            parts.append(_text(0, y + BAR - 3, f"rank {r}"))
            for pack, start in zip(rank.packs, starts_RM[r], strict=True):
                parts.extend(_pack(plan, pack, cost, LABEL + start * scale, y, scale))
            y += BAR + GAP
        if len(step.ranks) > most_ranks:
            parts.append(_text(0, y + BAR - 3, f"and {len(step.ranks) - most_ranks} more ranks"))
            y += BAR + GAP
        y += 22
    _, bands = bands_of_window(plan.lengths_N[:1], plan.rules.window, len(SHADES))
    title = f"{plan.rules.strategy}: work of {plan.data_ranks} data ranks in {len(shown)} steps"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="100%" role="img" '
        f'font-family="sans-serif" font-size="11" fill="currentColor"><title>{escape(title)}</title>'
        + "".join(_legend(bands, padded=plan.layout == "padded"))
        + "".join(parts)
        + "</svg>"
    )


def _run_lengths(plan: StepPlan, pack: Sequence[int]) -> NDArray[np.integer]:
    """Tokens each row of a microbatch is run at."""
    lengths = plan.lengths_N[list(pack)]
    return np.full_like(lengths, lengths.max()) if plan.layout == "padded" else lengths


def _starts(plan: StepPlan, step: Step, cost: SequenceCost) -> tuple[list[list[float]], float]:
    """When each microbatch of each rank starts, in FLOPs since the step began, and when the step ends."""
    work = [[float(cost.flops(_run_lengths(plan, pack)).sum()) for pack in rank.packs] for rank in step.ranks]
    if plan.rules.sync == "step":
        return [[sum(w[:m]) for m in range(len(w))] for w in work], max(sum(w) for w in work)
    rounds = [max(w[m] for w in work if len(w) > m) for m in range(step.microbatches)]
    return [[sum(rounds[:m]) for m in range(len(w))] for w in work], sum(rounds)


def _pack(plan: StepPlan, pack: Sequence[int], cost: SequenceCost, x: float, y: float, scale: float) -> list[str]:
    """Blocks of one microbatch from `x` on."""
    lengths, run = plan.lengths_N[list(pack)], _run_lengths(plan, pack)
    bands, _ = bands_of_window(lengths, plan.rules.window, len(SHADES))
    start, blocks = x, []
    for row, length, band, real, ran in zip(pack, lengths, bands, cost.flops(lengths), cost.flops(run), strict=True):
        width = float(real) * scale
        blocks.append(_block(x, y, width, SHADES[int(band)], f"row {row}: {int(length):,} tokens"))
        if ran > real:
            blocks.append(_block(x + width, y, float(ran - real) * scale, PAD, "padding"))
        x += float(ran) * scale
    box = f'x="{start:.2f}" y="{y}" width="{x - start:.2f}" height="{BAR}"'
    return [*blocks, f'<rect {box} fill="none" stroke="#0b2a4f"/>']


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
