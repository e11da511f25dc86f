"""`data card`: a data set's README for the hub, from what is on record beside its rows. What is not, it says so.

FILE.card.md   from FILE.report.json (a build), FILE.selection.json (a selection), and the rows themselves
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from longalign.base.files import atomic_write_text, sha256_of
from longalign.data.build_report import BuildReport
from longalign.data.choose.facts import UNKNOWN
from longalign.data.choose.given import read_given
from longalign.data.choose.row_out import check_free
from longalign.data.choose.stats import RowStats, stats_of
from longalign.errors import RunError
from longalign.llm.open import is_endpoint

NOT_RECORDED = "Not on record beside these rows."
LICENCES = ("license", "licence")
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGEST = "n>1M"
LIMITS = (
    "The check of answers compares words with the document: it finds answers that come from elsewhere, and cannot tell "
    "a right reading from a wrong one.",
    "The language model wrote questions and answers; its errors and preferences are in them. Nobody read every row.",
)


@dataclass(frozen=True)
class Records:
    """What lies beside a file of rows. A selection leads to the build that it was chosen from."""

    build: BuildReport | None
    selection: Mapping[str, Any] | None

    @classmethod
    def beside(cls, file: Path) -> Records:
        """Raises `RunError` for a damaged record."""
        selection = _json(file.with_name(f"{file.stem}.selection.json"))
        built = Path(str(selection["in"])) if selection and "in" in selection else file
        return cls(BuildReport.read(built.with_name(f"{built.stem}.report.json")), selection)


def card(file: Path) -> dict[str, Any]:
    """Write `FILE.card.md`. Raises `RunError` where one is there already: a person may have filled it in."""
    out = file.with_name(f"{file.stem}.card.md")
    check_free(out, [str(file)])
    text = card_text(file, Records.beside(file))
    atomic_write_text(out, text)
    return {"out": str(out), "text": f"{out}: fill in the licence, and what else you know, before you share it"}


def card_text(file: Path, records: Records) -> str:
    """The card as Markdown with YAML front matter."""
    found, licences = stats_of(str(file)), _licences(str(file))
    languages = [name for name in found.groups["language"] if name not in ("other", UNKNOWN)]
    head = {
        **({"language": languages} if languages else {}),
        "license": "unknown",
        "task_categories": ["text-generation", "question-answering"],
        "size_categories": [next((name for most, name in SIZES if found.rows < most), LARGEST)],
        "tags": ["long-context", "longalign"],
        "configs": [{"config_name": "default", "data_files": file.name}],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n# {file.stem}",
        "Licence: unknown: yours to fill.",
        f"{found.rows:,} rows, {found.tokens:,} tokens, {found.turns:,} answers about {found.documents:,} documents. "
        f"SHA-256 of the file: `{sha256_of(file)}`.",
        _holds(found),
        "## Sources\n\n" + _table(("source", "rows"), found.groups["source"]) + "\n\n" + _licence_text(licences),
        "## How it was made\n\n" + (_made(records.build) if records.build else NOT_RECORDED),
        *([f"## Chosen from more\n\n{_chosen(records.selection)}"] if records.selection else []),
        "## Contamination\n\n" + (_contamination(records.build) if records.build else NOT_RECORDED),
        "## Known limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(records.build)),
    ]
    return "\n\n".join(parts) + "\n"


def _holds(found: RowStats) -> str:
    parts = ["## What it holds"]
    for title, counts in (
        ("kind of question", found.groups["task"]),
        ("language", found.groups["language"]),
        ("tokens", found.groups["length"]),
    ):
        if set(counts) - {UNKNOWN}:
            parts.append(_table((title, "rows"), counts))
    if sum(found.evidence_positions.values()):
        parts.append(_table(("evidence at (0 start, 1 end of the document)", "pieces"), found.evidence_positions))
    return "\n\n".join(parts)


def _made(report: BuildReport) -> str:
    settings = report.settings
    llm = str(settings.get("llm", ""))
    shown = {
        "model": report.model,
        "asked as": llm.rpartition("@")[0] or llm if is_endpoint(llm) else Path(llm).name,
        "documents": ", ".join(Path(name).name or name for name in settings.get("documents", ())),
        "prompts (hash of their wording)": ", ".join(f"{name} {value}" for name, value in report.prompts.items()),
        "rows accepted of those tried": f"{report.rows:,} of {report.tried:,}",
        "calls": f"{report.spend.calls:,}",
        "cost": "unknown" if report.spend.spent_usd is None else f"${report.spend.spent_usd:,.4f}",
    }
    left = {"llm", "documents", "rows", "decontaminate", "concurrency", "timeout_s", "max_cost_usd"}
    chosen = {
        name: json.dumps(value, ensure_ascii=False)
        for name, value in settings.items()
        if name not in left and isinstance(value, str | int | float | bool | list) and value != []
    }
    parts = [_table(("", ""), shown), _table(("setting", "value"), _without_paths(chosen))]
    if report.rejected_by_reason:
        parts.append(_table(("candidate rejected because", "times"), report.rejected_by_reason))
    if report.corpus.dropped_by_reason or report.corpus.skipped_by_reason:
        gone = {**report.corpus.dropped_by_reason, **report.corpus.skipped_by_reason}
        parts.append(_table(("document left out because", "times"), gone))
    return "\n\n".join(parts)


def _without_paths(settings: Mapping[str, str]) -> dict[str, str]:
    """Folders of a person's machine are nobody's business."""
    return {name: value for name, value in settings.items() if "/" not in value and "\\\\" not in value}


def _chosen(selection: Mapping[str, Any] | None) -> str:
    if selection is None:
        return NOT_RECORDED
    by = ", ".join(f"{name} {weight:g}" for name, weight in selection["weights"].items())
    scoring = selection["how"].get("scoring")
    model = f", scored by {Path(scoring['model']).name}" if scoring else ""
    kept, read, name = selection["kept"], selection["read"]["read"], Path(selection["in"]).name
    parts = [f"{kept:,} of {read:,} rows of `{name}`, by {by}{model}."]
    if selection["left_out"]:
        parts.append(_table(("left out because", "rows"), selection["left_out"]))
    return "\n\n".join(parts)


def _contamination(report: BuildReport) -> str:
    names = [Path(name).name for name in report.settings.get("decontaminate", ())]
    if not names:
        return "Not checked: the build was given no evaluation files (`--decontaminate`)."
    share = report.settings.get("contaminated_share")
    short = report.corpus.evaluation_texts_too_short
    return (
        f"Documents that hold {share:.0%} of the 13-word shingles of an evaluation text were left out. Searched for: "
        f"{report.corpus.evaluation_texts:,} texts of {', '.join(names)}"
        + (f"; {short:,} more are too short to be searched for." if short else ".")
    )


def _limits(report: BuildReport | None) -> list[str]:
    found = list(LIMITS)
    if report is None:
        found = ["How these rows were made is not on record, so their limits are not known."]
    elif str(report.settings.get("llm")) == "offline":
        found.append("No language model wrote these rows: answers are sentences of the document, by a stand-in.")
    if report is not None and report.notice:
        found.append(report.notice[:1].upper() + report.notice[1:] + ".")
    return found


def _licences(name: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for given in read_given(name):
        told = next((str(given.raw[field]) for field in LICENCES if given.raw.get(field)), UNKNOWN)
        found[told] += 1
    return found


def _licence_text(licences: Counter[str]) -> str:
    if set(licences) == {UNKNOWN}:
        return "The rows carry no licences of their documents."
    return _table(("licence of the document", "rows"), dict(licences.most_common()))


def _table(heads: tuple[str, str], values: Mapping[str, object]) -> str:
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    for name, value in values.items():
        shown = f"{value:,}" if isinstance(value, int) else str(value)
        lines.append(f"| {_cell(str(name))} | {_cell(shown)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _json(path: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise RunError(f"{path}: damaged; move it away") from None
    return found if isinstance(found, dict) else None
