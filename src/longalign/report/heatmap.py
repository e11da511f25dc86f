"""A needle heatmap: lengths from left to right, depths from top to bottom, darker for more right answers."""

from __future__ import annotations

from markupsafe import Markup

from longalign.report.needle_grid import NeedleGrid, Share
from longalign.report.svg import group, picture, tag, text

LEFT, TOP, BOTTOM = 38, 4, 38
CELL_HEIGHT = 38
NARROWEST, ROOMY = 40, 46  # cell widths: the least, and from which on the interval is written too
WIDTH = 300
STRONG = 0.55  # cells above this share are dark enough for light figures


def heatmap(grid: NeedleGrid) -> Markup:
    """The drawing; each cell shows its share in percent and, where there is room, the interval."""
    columns, rows = len(grid.lengths), len(grid.depths)
    whole = max(WIDTH, LEFT + NARROWEST * columns)
    width = (whole - LEFT) / columns
    height = TOP + rows * CELL_HEIGHT + BOTTOM
    parts = []
    for i, depth in enumerate(grid.depths):
        y = TOP + i * CELL_HEIGHT
        parts.append(text(LEFT - 8, y + CELL_HEIGHT / 2 + 4, f"{depth:.0%}", anchor="end", class_="tick"))
        for j, length in enumerate(grid.lengths):
            parts.append(_cell(grid.cells[length, depth], length, depth, LEFT + j * width, y, width))
    for j, length in enumerate(grid.lengths):
        parts.append(
            text(LEFT + (j + 0.5) * width, height - BOTTOM + 17, f"{length:,}", anchor="middle", class_="tick")
        )
    parts.append(text((LEFT + whole) / 2, height - 5, "prompt length", anchor="middle", class_="axis"))
    title = f"needle accuracy of {grid.label} by prompt length and depth"
    return picture(whole, height, parts, title=title, class_="heatmap")


def _cell(share: Share, length: int, depth: float, x: float, y: float, width: float) -> Markup:
    value = share.value
    box = {"x": x + 1, "y": y + 1, "width": width - 2, "height": CELL_HEIGHT - 2, "rx": 3}
    where = f"{length:,} long, depth {depth:.0%}"
    if value is None:
        tip = f"{where}: no answer to any of {share.questions} questions"
        return group(
            [tag("rect", class_="hole", **box), text(x + width / 2, y + CELL_HEIGHT / 2 + 4, "–", anchor="middle")],
            class_="cell",
            data_tip=tip,
        )
    tip = f"{where}: {share.right} of {share.scored} right, 95% interval {share.low:.0%} to {share.high:.0%}"
    if share.failed:
        tip += f"; {share.failed} of {share.questions} without an answer"
    if len(share.seeds) > 1:
        tip += f"; {len(share.seeds)} seeds from {min(share.seeds):.0%} to {max(share.seeds):.0%}"
    strong = " strong" if value > STRONG else ""
    parts = [
        tag("rect", class_="ground", **box),
        tag("rect", class_="heat", fill_opacity=0.03 + 0.97 * value, **box),
        text(
            x + width / 2,
            y + CELL_HEIGHT / 2 - (2 if width > ROOMY else -4),
            f"{100 * value:.0f}",
            anchor="middle",
            class_=f"number{strong}",
        ),
    ]
    if width > ROOMY:
        limits = f"{100 * (share.low or 0):.0f}–{100 * (share.high or 0):.0f}"
        parts.append(text(x + width / 2, y + CELL_HEIGHT / 2 + 11, limits, anchor="middle", class_=f"limits{strong}"))
    return group(parts, class_="cell", data_tip=tip)
