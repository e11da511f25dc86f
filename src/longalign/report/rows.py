"""The rows that were built: how many of those tried, why others were rejected, what they hold and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from longalign.data.build_report import BuildReport
from longalign.report.collect import Findings
from longalign.report.isolate import inline
from longalign.report.stage import Stage
from longalign.report.words import MISSING, duration, percent, thousands


@dataclass(frozen=True)
class BuiltRows:
    """One set's line. `rejected`: why, most frequent reason first."""

    place: str
    model: str
    rows: str
    accepted: str
    tokens: str
    rejected: str
    kinds: str
    languages: str
    calls: str
    cost: str
    took: str


def built_rows(findings: Findings) -> tuple[BuiltRows, ...]:
    """Every finished build of rows."""
    return tuple(_row(stage) for stage in findings.named("data") if stage.done)


def _row(stage: Stage) -> BuiltRows:
    built = BuildReport.from_dict(stage.manifest["summary"], stage.folder)
    reasons = sorted(built.rejected_by_reason.items(), key=lambda item: -item[1])
    return BuiltRows(
        stage.place,
        built.model,
        thousands(built.rows),
        percent(built.rows / built.tried if built.tried else None),
        thousands(built.tokens),
        _counts(dict(reasons)),
        _counts(built.by_task),
        _counts(built.by_language),
        thousands(built.spend.calls),
        MISSING if built.spend.spent_usd is None else f"${built.spend.spent_usd:,.2f}",
        duration(built.wall_s),
    )


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{inline(name)} {count:,}" for name, count in found.items()) or "none"
