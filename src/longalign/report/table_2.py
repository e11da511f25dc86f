"""Our models in the columns of the paper's Table 2: only what was measured on the same sets, the rest stays empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longalign.eval.parts import EVAL_PARTS
from longalign.report.chat_section import mean_of_known
from longalign.report.collect import Findings
from longalign.report.words import MISSING, decimal

Results = Sequence[dict[str, Any]]
HARNESS = ("arc_challenge", "hellaswag", "truthfulqa_mc2", "mmlu")
GROUPS = ("single-document QA", "multi-document QA", "summary")


def ours_as_in_table_2(findings: Findings) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(label, cells in the order of `paper.COLUMNS`) of every model that has at least one of them."""
    by_part: dict[str, dict[str, Results]] = {
        part: {label: [s.results for s in stages if s.results] for label, stages in findings.evaluated(part).items()}
        for part in EVAL_PARTS
    }
    rows = []
    for label in dict.fromkeys(label for found in by_part.values() for label in found):
        chat, longbench, turns, harness = (
            by_part[part].get(label, []) for part in ("chat", "longbench", "mt_bench", "leaderboard")
        )
        cells = [
            _judged([r["by_dataset"].get("longbench-chat") for r in chat], "mean"),
            *(_judged([r.get("by_category", {}).get(name) for r in longbench], "share") for name in GROUPS),
            _judged([r["overall"] for r in turns], "mean"),
            *(_tasks([r["tasks"].get(name) for r in harness if not r["limit"]]) for name in HARNESS),
        ]
        if any(cell != MISSING for cell in cells):
            rows.append((label, tuple(cells)))
    return tuple(rows)


def _judged(groups: Sequence[dict[str, Any] | None], field: str) -> str:
    """A mean over seeds on the paper's scale, with a star where some questions have no score."""
    found = [row for row in groups if row and (field == "share" or row["scale"] == [1, 10])]
    mean = mean_of_known(row[field] for row in found)
    if mean is None:
        return MISSING
    return decimal(mean) + ("*" if any(row["scored"] < row["questions"] for row in found) else "")


def _tasks(rows: Sequence[dict[str, Any] | None]) -> str:
    mean = mean_of_known(row["accuracy"] for row in rows if row)
    return MISSING if mean is None else decimal(100 * mean)
