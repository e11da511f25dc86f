"""Rows that were chosen from more (`data select`): how many, by what, and why the others were left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.report.collect import Findings
from longalign.report.isolate import inline
from longalign.report.words import percent, thousands

PATTERN = "*.selection.json"
SHOWN_GROUPS = 12


@dataclass(frozen=True)
class Selection:
    """One selection's line. `medians`: of each criterion, kept rows and left-out ones."""

    place: str
    kept: str
    share: str
    tokens: str
    by: str
    left_out: str
    medians: str
    groups: str


def selections(findings: Findings) -> tuple[Selection, ...]:
    """Every selection below the folders of the page, in the order of their paths."""
    found = {path.resolve(): (root, path) for root in findings.folders for path in sorted(root.rglob(PATTERN))}
    read = ((root, path, _read(path)) for root, path in found.values())
    return tuple(_selection(path.relative_to(root), report) for root, path, report in read if report)


def _read(path: Path) -> dict[str, Any] | None:
    """None for another program's file."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return report if isinstance(report, dict) and {"kept", "left_out", "weights", "criteria"} <= report.keys() else None


def _selection(place: Path, report: dict[str, Any]) -> Selection:
    read = report["read"]["read"]
    left_out = {**report["left_out"], **report["read"]["left_out"]}
    medians = [
        f"{name} {' / '.join(_figure(sides.get(side)) for side in ('kept', 'left_out'))}"
        for name, sides in report["criteria"].items()
        if name in report["weights"]
    ]
    groups = report["groups"] if report["per"] else []
    shown = [
        f"{inline(' / '.join(each['group']))} {each['kept']:,} of {each['rows']:,}" for each in groups[:SHOWN_GROUPS]
    ]
    more = [f"and {len(groups) - SHOWN_GROUPS} more"] if len(groups) > SHOWN_GROUPS else []
    return Selection(
        str(place).removesuffix(PATTERN[1:]),
        thousands(report["kept"]),
        percent(report["kept"] / read if read else None),
        thousands(report["kept_tokens"]),
        ", ".join(f"{name} {weight:g}" for name, weight in report["weights"].items()),
        ", ".join(f"{inline(reason)} {count:,}" for reason, count in left_out.items()) or "none",
        ", ".join(medians),
        ", ".join([*shown, *more]),
    )


def _figure(values: dict[str, float] | None) -> str:
    return "–" if not values else f"{values['p50']:.3g}"
