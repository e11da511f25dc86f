"""Short skills, scored exactly: whether long training cost anything (paper section 4.4, Table 3's question).

Questions with one right answer come from the bundled generator's held-out split, or from the user's own rows (the
last assistant turn is the reference). Same questions for every model, so differences can be tested in pairs.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, atomic_write_text
from longalign.base.stage import open_stage
from longalign.bundled.skills import short_rows
from longalign.config import EvalSettings, ShortSettings
from longalign.data.source import read_rows
from longalign.errors import DataError
from longalign.eval.subject import alone, files_fingerprint, model_fingerprint, open_subject
from longalign.eval.task import ANSWERS, RESULTS, SCORES, Answer, Item, mean_of, passing_failures, spend, tally

VERSION = 1
ENDINGS = " .。!！"


def short(settings: EvalSettings, out: Path) -> dict[str, Any]:
    """Stage `short`: writes `answers.jsonl`, `scores.jsonl` and `results.json` into `out`, returns the results."""
    wanted = settings.short or ShortSettings()
    settings = alone(settings, "short", wanted)
    inputs = {"model": model_fingerprint(settings)}
    if wanted.rows:
        inputs["rows"] = files_fingerprint([wanted.rows])
    with open_stage(out, "short", settings=settings, inputs=inputs, version=VERSION) as stage:
        if stage.done:
            return stage.summary
        rows = held_out_rows(wanted)
        items = [Item(row["id"], tuple(row["messages"][:-1]), wanted.max_new_tokens) for row in rows]
        with open_subject(settings, out) as subject:
            answers = subject.ask(items, out / ANSWERS, "short skills")
        scores = [score_row(row, answers[row["id"]]) for row in rows]
        results = {
            "task": "short",
            "label": settings.label or subject.model.name,
            "model_seed": settings.model_seed,
            **subject.describe(),
            "rows": wanted.rows or "builtin:short (held-out split)",
            "language": wanted.language,
            "overall": shares(scores),
            "by_kind": {kind: shares(r for r in scores if r["kind"] == kind) for kind in kinds(scores)},
            "spend": spend(list(answers.values())),
        }
        atomic_write_text(out / SCORES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in scores))
        atomic_write_json(out / RESULTS, results)
        return results if passing_failures(answers) else stage.finish(results)


def held_out_rows(settings: ShortSettings) -> list[dict[str, Any]]:
    """The questions: the first `questions` of the user's rows, or held-out ones of the generator."""
    if settings.rows is None:
        return list(short_rows(settings.questions, seed=settings.seed, split="heldout", language=settings.language))
    rows: list[dict[str, Any]] = []
    for number, row in enumerate(read_rows(settings.rows), start=1):
        if row["messages"][-1]["role"] != "assistant" or len(row["messages"]) < 2:
            raise DataError(f"{settings.rows}: row {number} does not end with an assistant turn, the reference answer")
        rows.append({**row, "id": f"{number}:{row.get('id') or ''}"})
        if len(rows) == settings.questions:
            break
    if not rows:
        raise DataError(f"{settings.rows}: no rows; give at least one with a question and its answer")
    return rows


def score_row(row: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """One line of `scores.jsonl`; `score` is null where there is no answer."""
    expected = row["messages"][-1]["content"]
    score = None
    if answer.text is not None:
        said, wanted = normalise(answer.text), normalise(expected)
        score = {"exact": said == wanted, "contains": wanted in said}
    return {
        "key": row["id"],
        "kind": row.get("task") or "all",
        "question": row["messages"][-2]["content"],
        "expected": expected,
        "answer": answer.text,
        "failure": answer.failure,
        "score": score,
    }


def normalise(text: str) -> str:
    """Text without case, width variants, spare white space and a final full stop."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(ENDINGS)


def kinds(scores: Sequence[dict[str, Any]]) -> list[str]:
    """Kinds in order of first appearance."""
    return list(dict.fromkeys(row["kind"] for row in scores))


def shares(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Counts and shares of a group; failed questions are left out of the share and counted."""
    rows = list(rows)
    scored = [row["score"] for row in rows if row["score"] is not None]
    exact = [score["exact"] for score in scored]
    return tally(exact, len(rows)) | {"contains_accuracy": mean_of(scored, "contains")}
