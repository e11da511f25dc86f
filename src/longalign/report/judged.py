"""Judged tasks on the page: scores with intervals, what was missing, and the judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from longalign.eval.registry import TASKS, find_task
from longalign.eval.results import mean_of_known
from longalign.report.isolate import inline
from longalign.report.stage import Stage
from longalign.report.words import MISSING, decimal, interval, thousands


@dataclass(frozen=True)
class ChatRow:
    """One model's line."""

    label: str
    figure: str
    limits: str
    bounds: str
    counts: str
    cut: str
    by_category: tuple[str, ...]

    @property
    def score(self) -> str:
        """The figure with its limits, in one line."""
        return f"{self.figure} {self.limits}".rstrip()


@dataclass(frozen=True)
class ChatSection:
    """The values that the template shows. `judges` has more than one entry where scores are not comparable."""

    title: str
    rows: tuple[ChatRow, ...]
    categories: tuple[str, ...]
    cases: tuple[str, ...]
    judges: tuple[str, ...]
    cost: str


def chat_section(task: str, evaluated: dict[str, list[Stage]]) -> ChatSection | None:
    """One judged task; None where no model has been judged on it."""
    if not evaluated:
        return None
    results = [stage.results for stages in evaluated.values() for stage in stages if stage.results]
    categories = tuple(dict.fromkeys(name for r in results for name in r.get("by_category", {})))
    return ChatSection(
        title_of(task, results),
        tuple(_row(label, [s.results for s in stages if s.results], categories) for label, stages in evaluated.items()),
        categories,
        tuple(dict.fromkeys(str(r["cases"]) for r in results)),
        tuple(dict.fromkeys(_judge(r["judge"]) for r in results)),
        _cost(results),
    )


def title_of(task: str, results: Sequence[dict[str, Any]]) -> str:
    """The heading of a task's section: the title in its results, or the task's own title for older results."""
    written = next((str(r["title"]) for r in results if "title" in r), None)
    return written or (find_task(task).title if task in TASKS else task)


def _row(label: str, results: Sequence[dict[str, Any]], categories: Sequence[str]) -> ChatRow:
    overall = [r["overall"] for r in results]
    scale = overall[0]["scale"]
    fields = ("mean", "low", "high") if scale else ("share", "share_low", "share_high")
    means = [row[fields[0]] for row in overall if row[fields[0]] is not None]
    if not means:
        figure, limits = "nothing scored", ""
    elif len(means) == 1:
        first = next(row for row in overall if row[fields[0]] is not None)
        figure, limits = decimal(means[0]), interval(first[fields[1]], first[fields[2]])
    else:
        spread = f"{decimal(min(means))} to {decimal(max(means))}"
        figure, limits = decimal(sum(means) / len(means)), f"{len(means)} seeds from {spread}"
    worst = sum(row["worst_share"] for row in overall) / len(overall)
    best = sum(row["best_share"] for row in overall) / len(overall)
    missing = sum(row["unscored"] + row["failed"] for row in overall)
    low, high = scale or (0, 100)
    groups = (
        mean_of_known(r["by_category"][name][fields[0]] for r in results if name in r.get("by_category", {}))
        for name in categories
    )
    return ChatRow(
        label,
        figure,
        f"{limits} on {low}–{high}".lstrip() if means else limits,
        f"{decimal(low + worst / 100 * (high - low))} to {decimal(low + best / 100 * (high - low))}"
        if best - worst > 1e-6
        else MISSING,
        _counts(overall, missing),
        thousands(sum(row["cut"] for row in overall)),
        tuple(MISSING if value is None else decimal(value) for value in groups),
    )


def _counts(overall: Sequence[dict[str, Any]], missing: int) -> str:
    """Questions of one seed, since those of all seeds are the same."""
    scored = max(row["scored"] for row in overall)
    seeds = f" by {len(overall)} seeds" if len(overall) > 1 else ""
    wrong = sum(row.get("counted_wrong", 0) for row in overall)
    return f"{scored} scored{seeds}, {missing} missing" + (f", {wrong} failed, counted as lowest" if wrong else "")


def _judge(judge: dict[str, Any]) -> str:
    hashes = ", ".join(f"{name} {value}" for name, value in judge["prompt_hash"].items())
    temperature = "temperature 0" if judge["temperature"] == 0 else "a temperature of its own"
    return f"{inline(judge['model'])}, {judge['scorings']} scorings an answer at {temperature}, prompt {hashes}"


def _cost(results: Sequence[dict[str, Any]]) -> str:
    spends = [r["judge"]["spend"] for r in results]
    tokens = [
        (s["prompt_tokens"] or 0) + (s["completion_tokens"] or 0) for s in spends if s["prompt_tokens"] is not None
    ]
    money = [s["cost_usd"] for s in spends if s["cost_usd"] is not None]
    parts = [f"{sum(r['judge']['verdicts'] for r in results)} verdicts"]
    unreadable = sum(r["judge"]["unreadable"] + r["judge"]["failed"] for r in results)
    parts.append(f"{unreadable} unreadable or failed")
    parts.append(f"{sum(tokens):,} judge tokens" if tokens else "judge tokens not reported")
    parts.append(f"${sum(money):.4f}" if money else "no cost known")
    return ", ".join(parts)
