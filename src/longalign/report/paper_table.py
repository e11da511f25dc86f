"""The paper's own figures (Bai et al. 2024, arXiv 2401.18058), and our models in the columns of its Table 2.

A cell of ours is filled only by a measurement on the same test set; the others stay empty. The paper's figures are
always marked as the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longalign.eval.results import mean_of_known
from longalign.report.collect import Findings
from longalign.report.isolate import inline
from longalign.report.words import MISSING, decimal

Results = Sequence[dict[str, Any]]
HARNESS = ("arc_challenge", "hellaswag", "truthfulqa_mc2", "mmlu")
Cell = tuple[str, str]
NOTHING = (MISSING, "")
STAND_IN = "offline"
GROUPS = ("single-document QA", "multi-document QA", "summary")


def table_2_rows(findings: Findings) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
    """(label, cells in the order of `paper.COLUMNS`) of every model that has at least one of them.

    A cell is the figure and what it rests on: questions, cases, judge. A stand-in for a judge fills none.
    """
    by_task: dict[str, dict[str, Results]] = {
        task: {label: [s.results for s in stages if s.results] for label, stages in findings.evaluated(task).items()}
        for task in findings.tasks()
    }
    rows = []
    for label in dict.fromkeys(label for found in by_task.values() for label in found):
        chat, longbench, turns, harness = (
            by_task.get(task, {}).get(label, []) for task in ("longbench_chat", "longbench", "mt_bench", "leaderboard")
        )
        cells = [
            _judged([(r, r["by_dataset"].get("longbench-chat")) for r in chat], "mean"),
            *(_judged([(r, r.get("by_category", {}).get(name)) for r in longbench], "share") for name in GROUPS),
            _judged([(r, r["overall"]) for r in turns], "mean"),
            *(_tasks([r["tasks"].get(name) for r in harness if not r["limit"]]) for name in HARNESS),
        ]
        if any(cell != NOTHING for cell in cells):
            rows.append((label, tuple(cells)))
    return tuple(rows)


def _judged(groups: Sequence[tuple[dict[str, Any], dict[str, Any] | None]], field: str) -> Cell:
    """A mean over seeds on the paper's scale, with a star where some questions have no score."""
    found = [
        (results, row)
        for results, row in groups
        if row and (field == "share" or row["scale"] == [1, 10]) and not results["judge"]["model"].startswith(STAND_IN)
    ]
    mean = mean_of_known(row[field] for _, row in found)
    if mean is None:
        return NOTHING
    star = "*" if any(row["scored"] < row["questions"] for _, row in found) else ""
    asked = max(row["scored"] for _, row in found)
    cases = dict.fromkeys(_files(str(results["cases"])) for results, _ in found)
    judges = dict.fromkeys(inline(str(results["judge"]["model"])) for results, _ in found)
    return decimal(mean) + star, f"{asked} of {', '.join(cases)}, by {', '.join(judges)}"


def _files(cases: str) -> str:
    """Names of files, without their folders."""
    return ", ".join(inline(Path(name).name) for name in cases.split(", "))


def _tasks(rows: Sequence[dict[str, Any] | None]) -> Cell:
    found = [row for row in rows if row]
    mean = mean_of_known(row["accuracy"] for row in found)
    return NOTHING if mean is None else (decimal(100 * mean), f"{found[0]['questions']} questions")


COLUMNS = ("LongBench-Chat", "S-Doc QA", "M-Doc QA", "Summ", "MT-Bench", "ARC", "HellaSwag", "TruthfulQA", "MMLU")
CHATGLM3_6B = (
    ("0k long rows", (3.73, 58.7, 41.1, 38.4, 5.34, 50.3, 74.7, 51.6, 45.5)),
    ("5k long rows", (5.97, 61.8, 42.1, 42.0, 5.51, 50.3, 75.1, 52.5, 46.6)),
    ("10k long rows", (6.21, 64.0, 44.4, 44.2, 5.5, 50.5, 74.9, 52.5, 45.5)),
    ("LongAlpaca-12k", (4.46, 65.8, 45.6, 44.1, 4.93, 51.5, 75.4, 53.2, 47.1)),
    ("naive batching", (5.87, 65.4, 45.0, 44.8, 5.61, 50.7, 74.7, 52.8, 46.0)),
    ("sorted batching", (5.4, 66.2, 46.3, 43.7, 5.76, 51.3, 74.8, 51.9, 46.3)),
    ("packing", (5.76, 65.0, 45.1, 42.8, 5.64, 50.9, 74.8, 50.5, 47.2)),
    ("packing + loss weighting", (6.21, 64.0, 44.4, 44.2, 5.5, 50.5, 74.9, 52.5, 45.5)),
)
HOURS_COLUMNS = ("naive", "packing", "sorted")
HOURS = (
    ("ChatGLM3-6B", (45.4, 20.5, 19.1)),
    ("Llama-2-7B", (67.2, 23.4, 23.3)),
    ("Llama-2-13B", (117.2, 41.2, 44.5)),
)
CAUTION = (
    "LongBench-Chat has 50 questions: the standard error of a mean is about 0.4, so 5.76 and 6.21 are not "
    "distinguishable by themselves; seeing such a difference takes 250 to 490 questions."
)
OTHER_JUDGE = (
    "Judged columns depend on the judge and its prompt, and shares of a scale count from its lowest rating (a 1 on 1-3 "
    "is 0): compare our rows with each other, and with the paper's only in their order. "
    "Below each figure: its questions, their files and the judge. * without the questions that have no score. "
    "Parts of the harness's tasks, and ratings by the offline stand-in, are not shown."
)
