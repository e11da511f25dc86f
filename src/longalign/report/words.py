"""Figures as text, formatted alike everywhere on the page. What is missing is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

MISSING = "–"


def percent(value: float | None) -> str:
    """0.934 -> `93%`."""
    return MISSING if value is None else f"{100 * value:.0f}%"


def percents(low: float | None, high: float | None) -> str:
    """`90–95%`."""
    return MISSING if low is None or high is None else f"{100 * low:.0f}–{100 * high:.0f}%"


def span(values: Sequence[float]) -> str:
    """Smallest and largest of several seeds, as percents."""
    return percents(min(values), max(values)) if values else MISSING


def decimal(value: float | None, places: int = 2) -> str:
    """A number with fixed places."""
    return MISSING if value is None else f"{value:.{places}f}"


def interval(low: float | None, high: float | None, places: int = 2) -> str:
    """`[5.21, 6.30]`, or nothing where there are no limits."""
    return "" if low is None or high is None else f"[{low:.{places}f}, {high:.{places}f}]"


def thousands(value: float | None) -> str:
    """12345.6 -> `12,346`."""
    return MISSING if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """75 -> `1 min 15 s`; hours and days as `h:mm:ss`."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return str(timedelta(seconds=round(seconds)))


def several(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
