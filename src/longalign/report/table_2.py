"""Our models in the columns of the paper's Table 2: only what was measured on the same sets, the rest stays empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longalign.eval.parts import EVAL_PARTS
from longalign.report.chat_section import category_means
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
            _mean([r["by_dataset"].get("longbench-chat", {}).get("mean") for r in chat]),
            *(category_means(longbench, name, "share") if longbench else None for name in GROUPS),
            _mean([r["overall"]["mean"] for r in turns]),
            *(_percent(_mean([r["tasks"].get(name, {}).get("accuracy") for r in harness])) for name in HARNESS),
        ]
        if any(cell is not None for cell in cells):
            rows.append((label, tuple(MISSING if cell is None else decimal(cell) for cell in cells)))
    return tuple(rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
