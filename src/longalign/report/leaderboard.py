"""The part of lm-evaluation-harness: each model's figure by task with its interval, seeds averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longalign.report.isolate import inline
from longalign.report.stage import Stage
from longalign.report.words import MISSING, percent, percents, span


@dataclass(frozen=True)
class LeaderboardSection:
    """What the template shows: `rows` hold (share, what stands below it) for each task."""

    tasks: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    harness: tuple[str, ...]
    limited: bool


def leaderboard_section(evaluated: dict[str, list[Stage]]) -> LeaderboardSection | None:
    """None where the harness has not been run."""
    if not evaluated:
        return None
    results = {label: [s.results for s in stages if s.results] for label, stages in evaluated.items()}
    everything = [r for runs in results.values() for r in runs]
    tasks = tuple(dict.fromkeys(name for r in everything for name in r["tasks"]))
    return LeaderboardSection(
        tuple(f"{inline(name)} ({_shots(name, everything)} shots)" for name in tasks),
        tuple(
            (label, tuple(_cell([r["tasks"].get(name) for r in runs]) for name in tasks))
            for label, runs in results.items()
        ),
        tuple(dict.fromkeys(str(r["harness"]) for r in everything)),
        any(r["limit"] for r in everything),
    )


def _shots(name: str, results: Sequence[dict[str, Any]]) -> int | None:
    return next((r["tasks"][name]["shots"] for r in results if name in r["tasks"]), None)


def _cell(found: Sequence[dict[str, Any] | None]) -> tuple[str, str]:
    rows = [row for row in found if row]
    if not rows:
        return MISSING, "not run"
    shares = [row["accuracy"] for row in rows]
    if len(rows) > 1:
        return percent(sum(shares) / len(shares)), f"{len(rows)} seeds {span(shares)}"
    return percent(shares[0]), f"{percents(rows[0]['low'], rows[0]['high'])} of {rows[0]['questions']}"
