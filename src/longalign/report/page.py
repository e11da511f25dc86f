"""One self-contained page from result files: no server, no outside requests, every foreign text escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from longalign.eval.parts import JUDGED_PARTS
from longalign.report import paper
from longalign.report.chat_section import chat_section
from longalign.report.collect import Findings, collect
from longalign.report.data_section import data_section, throughput_section
from longalign.report.leaderboard_section import leaderboard_section
from longalign.report.manifest_section import manifest_section
from longalign.report.needle_section import needle_section
from longalign.report.samples import samples
from longalign.report.short_section import short_section
from longalign.report.table_2 import ours_as_in_table_2
from longalign.report.training_section import training_section
from longalign.report.verdict import verdict
from longalign.run import atomic_write_text

TRAINED = ("extend", "train")


def report(folders: Sequence[Path], out_html: Path, *, only: Collection[Path] | None = None) -> dict[str, Any]:
    """Write the page about all stages at or below `folders` (with `only`: of those that lie in these folders).

    Returns its path, verdict and what is missing.
    Raises `RunError` where there is no stage at all, or a result file is damaged.
    """
    findings = collect([Path(folder) for folder in folders], only=only)
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
    judged = {part: chat_section(part, findings.evaluated(part)) for part in JUDGED_PARTS}
    chat = judged["chat"]
    return {
        "title": ", ".join(folder.resolve().name for folder in findings.folders),
        "verdict": verdict(needle, short, chat),
        "needle": needle,
        "short": short,
        "leaderboard": leaderboard_section(findings.evaluated("leaderboard")),
        "chat": [section for section in judged.values() if section],
        "judge_tests": [stage.results["text"] for stage in findings.named("judge") if stage.results],
        "training": training_section(trained),
        "data": data_section(trained),
        "throughput": throughput_section(findings),
        "samples": samples(findings),
        "manifest": manifest_section(findings),
        "paper": paper,
        "ours": ours_as_in_table_2(findings),
    }


def render(page: dict[str, Any]) -> str:
    """The page's HTML. Its policy allows this style sheet and this script, by hash, and nothing else."""
    environment = Environment(
        loader=PackageLoader("longalign.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
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
