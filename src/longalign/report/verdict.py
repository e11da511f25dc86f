"""The page's first sentence, computed from the results: what was found, against what, and how sure that is."""

from __future__ import annotations

from longalign.report.chat_section import ChatSection
from longalign.report.needle_grid import NeedleGrid
from longalign.report.needle_section import NeedleSection
from longalign.report.short_section import ShortRow, ShortSection
from longalign.report.words import percent, percents, several, thousands


def verdict(needle: NeedleSection | None, short: ShortSection | None, chat: ChatSection | None = None) -> str:
    """One sentence; says so when there is nothing to say. Judged answers speak where needles do not."""
    parts = [part for part in (_needle(needle) or _chat(chat), _short(short)) if part]
    return "; ".join(parts) + "." if parts else "No evaluation results yet: run `longalign eval` on a model first."


def best(grids: tuple[NeedleGrid, ...], length: int) -> NeedleGrid | None:
    """The model that finds most at a length."""
    asked = [grid for grid in grids if length in grid.by_length and grid.by_length[length].value is not None]
    return max(asked, key=lambda grid: grid.by_length[length].value or 0) if asked else None


def _needle(section: NeedleSection | None) -> str | None:
    if section is None:
        return None
    length = section.lengths[-1]
    first = best(section.grids, length)
    if first is None:
        return f"at {thousands(length)} tokens no model gave an answer"
    share = first.by_length[length]
    found = (
        f"at {thousands(length)} tokens {first.label} finds {percent(share.value)} of the needles "
        f"(95% interval {percents(share.low, share.high)}, {share.scored} questions)"
    )
    others = [
        f"{grid.label} {percent(grid.by_length[length].value)}"
        for grid in section.grids
        if grid is not first and length in grid.by_length and grid.by_length[length].value is not None
    ]
    return f"{found}, {several(others)}" if others else found


def _chat(section: ChatSection | None) -> str | None:
    return f"judged answers: {several([f'{row.label} {row.score}' for row in section.rows])}" if section else None


def _short(section: ShortSection | None) -> str | None:
    if section is None:
        return None
    row = section.rows[-1]
    if row.verdict is None:
        return f"short skills: {several([_figure(each) for each in section.rows])}"
    word = {
        True: "short skills dropped",
        False: "short skills did not drop",
        None: "whether short skills dropped cannot be told",
    }
    reference = next(r for r in section.rows if r.label == section.reference)
    return f"{word[row.dropped]} ({_figure(row)} against {_figure(reference)})"


def _figure(row: ShortRow) -> str:
    return f"{row.label} {percent(row.share.value)}"
