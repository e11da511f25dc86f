"""The eval stage: the parts that are set, on one model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from longalign.config import EvalSettings
from longalign.errors import ConfigError
from longalign.eval.chat import chat
from longalign.eval.leaderboard import leaderboard
from longalign.eval.needle import needle
from longalign.eval.short import short
from longalign.eval.task import RESULTS
from longalign.run import atomic_write_json

PARTS: dict[str, Callable[[EvalSettings, Path], dict[str, Any]]] = {
    "needle": needle,
    "short": short,
    "chat": chat,
    "longbench": partial(chat, part="longbench"),
    "mt_bench": partial(chat, part="mt_bench"),
    "leaderboard": leaderboard,
}


def evaluate(settings: EvalSettings, out: Path) -> dict[str, Any]:
    """Run the parts that are set. One part writes into `out` itself; several into `out/needle`, `out/short`, ...,
    and then `out/results.json` holds `{part: results}`."""
    wanted = [name for name in PARTS if getattr(settings, name) is not None]
    if not wanted:
        raise ConfigError(f"nothing to evaluate: set at least one of {', '.join(f'eval.{name}' for name in PARTS)}")
    if len(wanted) == 1:
        results = PARTS[wanted[0]](settings, out)
        return results | {"text": readable(results)}
    parts = {name: PARTS[name](settings, out / name) for name in wanted}
    atomic_write_json(out / RESULTS, parts)
    return parts | {"text": "\n\n".join(readable(results) for results in parts.values())}


def readable(results: dict[str, Any]) -> str:
    """The results of one part as a few lines for a person."""
    writers = {"needle": _needle_lines, "short": _short_lines, "leaderboard": _leaderboard_lines}
    return "\n".join(writers.get(results["task"], _judged_lines)(results))


def _needle_lines(results: dict[str, Any]) -> list[str]:
    lines = [f"needle retrieval of {results['label']} (95% Wilson intervals; lengths in {results['length_unit']})"]
    lines.append(f"{'length':>8} {'value right':>24} {'name right':>11} {'questions':>10} {'failed':>7}")
    for length, row in results["by_length"].items():
        share = _interval(row["accuracy"], row["low"], row["high"])
        name = "-" if row["accuracy"] is None else f"{row['name_accuracy']:.2f}"
        lines.append(f"{length:>8} {share:>24} {name:>11} {row['questions']:>10} {row['failed']:>7}")
    return lines + [f"note: {note}" for note in results["notes"]]


def _short_lines(results: dict[str, Any]) -> list[str]:
    row = results["overall"]
    lines = [f"short skills of {results['label']}: {_interval(row['accuracy'], row['low'], row['high'])} exactly right"]
    lines += [f"{kind:>12} {_interval(r['accuracy'], r['low'], r['high'])}" for kind, r in results["by_kind"].items()]
    return lines + ([f"note: {row['failed']} of {row['questions']} have no answer"] if row["failed"] else [])


def _judged_lines(results: dict[str, Any]) -> list[str]:
    row, judge = results["overall"], results["judge"]
    scale = f" on {row['scale'][0]}-{row['scale'][1]}" if row["scale"] else " of 100"
    mean = ("mean", "low", "high") if row["scale"] else ("share", "share_low", "share_high")
    lines = [f"{results['task']} score of {results['label']}: {_interval(*(row[name] for name in mean))}{scale}"]
    for name, group in results.get("by_category", {}).items():
        lines.append(f"{name or 'other':>20} {_interval(*(group[field] for field in mean))}")
    lines.append(f"cases: {results['cases']}; judge: {judge['model']}, {judge['scorings']} scorings each")
    missing = f"{row['failed']} without an answer, {row['unscored']} without a readable verdict"
    return [*lines, f"{row['scored']} of {row['questions']} questions scored ({missing})"]


def _leaderboard_lines(results: dict[str, Any]) -> list[str]:
    lines = [f"lm-evaluation-harness {results['harness']} on {results['label']}"]
    for name, row in results["tasks"].items():
        figures = _interval(row["accuracy"], row["low"], row["high"])
        lines.append(f"{name:>16} {figures} {row['metric']}, {row['shots']} shots, {row['questions']} questions")
    return lines + ([f"note: only the first {results['limit']} questions of each task"] if results["limit"] else [])


def _interval(estimate: float | None, low: float | None, high: float | None) -> str:
    if estimate is None:
        return "nothing scored"
    return f"{estimate:.3f}" if low is None or high is None else f"{estimate:.3f} [{low:.3f}, {high:.3f}]"
