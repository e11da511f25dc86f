"""One self-contained page from result files: no server, no outside requests, all foreign text escaped.

`verdict` is the page's first sentence, computed from the results: what was found, compared with what, how certain.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from longalign.base.files import atomic_write_text
from longalign.eval.failed import Failed
from longalign.report import paper_table as paper
from longalign.report.collect import Findings, collect
from longalign.report.isolate import inline, isolate, joined, plain
from longalign.report.judged import ChatSection, chat_section
from longalign.report.leaderboard import leaderboard_section
from longalign.report.manifest import manifest_section
from longalign.report.needle import NeedleGrid, NeedleSection, needle_section
from longalign.report.paper_table import table_2_rows
from longalign.report.rows import built_rows
from longalign.report.samples import samples
from longalign.report.selection import selections
from longalign.report.short import ShortRow, ShortSection, short_section
from longalign.report.synthetic import synthetic_section
from longalign.report.table import table_sections
from longalign.report.training import data_section, throughput_section, training_section
from longalign.report.words import percent, percents, several, thousands

TRAINED = ("extend", "train")


def report(
    folders: Sequence[Path], out_html: Path, *, only: Collection[Path] | None = None, failed: Failed = "left_out"
) -> dict[str, Any]:
    """Write the page about all stages at or below `folders` (with `only`: of those that lie in these folders).

    `failed`: whether questions without an answer are left out of the figures or count as wrong.

    Returns its path, verdict and what is missing.
    Raises `RunError` where there is no stage at all, or a result file is damaged.
    """
    findings = collect([Path(folder) for folder in folders], only=only, failed=failed)
    page = build_page(findings)
    atomic_write_text(out_html, render(page))
    missing = [name for name in ("needle", "short", "chat", "training", "data", "throughput") if not page[name]]
    lines = [page["verdict"], f"page: {out_html}"]
    if missing:
        lines.append(f"not in it, because it was not run: {', '.join(missing)}")
    return {
        "page": str(out_html),
        "verdict": page["verdict"],
        "stages": len(findings.stages),
        "missing": missing,
        "unfinished": list(page["manifest"].unfinished),
        "text": "\n".join(lines),
    }


def build_page(findings: Findings) -> dict[str, Any]:
    """Everything that the template shows; a part that was not run is None or empty."""
    trained = [stage for stage in findings.stages if stage.name in TRAINED]
    needle = needle_section(findings.evaluated("needle"))
    short = short_section(findings.evaluated("short"))
    judged = {
        task: chat_section(task, findings.evaluated(task)) for task in findings.tasks() if findings.is_judged(task)
    }
    chat = judged.get("longbench_chat")
    return {
        "title": ", ".join(inline(folder.resolve().name) for folder in findings.folders),
        "verdict": verdict(needle, short, chat, unanswered(findings)),
        "failed": findings.failed,
        "notes": findings.systems.notes,
        "needle": needle,
        "synthetic": synthetic_section(findings.evaluated("synthetic")),
        "short": short,
        "leaderboard": leaderboard_section(findings.evaluated("leaderboard")),
        "chat": [section for section in judged.values() if section],
        "tables": table_sections(findings),
        "judge_tests": [stage.results["text"] for stage in findings.named("judge") if stage.results],
        "training": training_section(trained),
        "rows": built_rows(findings),
        "selections": selections(findings),
        "data": data_section(trained),
        "throughput": throughput_section(findings),
        "samples": samples(findings),
        "manifest": manifest_section(findings),
        "paper": paper,
        "measured": table_2_rows(findings),
    }


def render(page: dict[str, Any]) -> str:
    """The page's HTML. Its policy allows this style sheet and this script, by hash, and nothing else."""
    environment = Environment(
        loader=PackageLoader("longalign.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=isolate,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": plain, "joined": joined}
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    template = environment.get_template("page.html")
    return template.render(**page, style=style, script=script, policy=policy)


def _asset(name: str) -> str:
    return files("longalign.report").joinpath(f"templates/{name}").read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def verdict(
    needle: NeedleSection | None, short: ShortSection | None, chat: ChatSection | None = None, silent: str = ""
) -> str:
    """One sentence; says so when there is nothing to say. Judged answers speak where needles do not. `silent`: what has
    no score."""
    parts = [part for part in (_needle(needle) or _chat(chat), _short(short)) if part]
    if parts and silent:
        parts.insert(1, silent)
    return "; ".join(parts) + "." if parts else "No evaluation results yet: run `longalign eval` on a model first."


def unanswered(findings: Findings) -> str:
    """Which models have questions without a score, how many, and what became of them; empty where none has."""
    lost: list[str] = []
    wrong = findings.failed == "wrong"
    for task in findings.tasks():
        for name, stages in findings.evaluated(task).items():
            rows = [row for s in stages if s.results and isinstance(row := s.results.get("overall"), dict)]
            questions = sum(row.get("questions", 0) for row in rows)
            failed = sum(row.get("counted_wrong", 0) if wrong else row.get("failed", 0) for row in rows)
            unread = sum(row.get("unscored", 0) for row in rows)
            if failed:
                lost.append(f"{name} has no answer to {failed} of {questions} questions of {task}")
            if unread:
                lost.append(f"{unread} of {questions} answers of {name} in {task} have no readable verdict")
    if not lost:
        return ""
    what = "unanswered questions count as wrong" if wrong else "these are left out of the figures"
    return f"{several(lost)}: {what}"


def best(grids: tuple[NeedleGrid, ...], length: int) -> NeedleGrid | None:
    """The model that finds most at a length."""
    measured = [grid for grid in grids if length in grid.by_length and grid.by_length[length].value is not None]
    return max(measured, key=lambda grid: grid.by_length[length].value or 0) if measured else None


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
