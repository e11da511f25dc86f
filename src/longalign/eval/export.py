"""Finished evaluations in the forms of other tools: CSV, Parquet, Inspect's log, lm-evaluation-harness's results.

`scores.jsonl` and `results.json` stay the source; an export holds the same questions and figures.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_path, atomic_write_text, read_jsonl
from longalign.base.stage import read_manifest
from longalign.errors import ConfigError, nearest
from longalign.eval.compare import compared_by
from longalign.eval.results import RESULTS, SCORES, Compared, Row, headline, results_of_task

GROUPS = ("by_kind", "by_length", "by_category", "by_difficulty")


def export(folder: Path, form: str, out: Path) -> dict[str, Any]:
    """Write the task in `folder` to the file `out` as `form`. Returns what was written.

    Raises `ConfigError` for an unknown form, `RunError` where the folder holds no finished task.
    """
    if form not in FORMS:
        raise ConfigError(f"there is no form `{form}`{nearest(form, list(FORMS))}; there are {', '.join(FORMS)}")
    results = results_of_task(folder)
    rows = read_jsonl(folder / SCORES)
    manifest = read_manifest(folder) or {}
    written = datetime.fromtimestamp((folder / RESULTS).stat().st_mtime, tz=UTC).isoformat()
    FORMS[form](results | {"created": manifest.get("started_at", written)}, rows, out)
    return {"out": str(out), "form": form, "rows": len(rows), "text": f"{out}: {len(rows):,} questions as {form}"}


def flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """`{"score": {"share": 1}}` -> `{"score.share": 1}`; lists as JSON."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}.")
        else:
            found[before + key] = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
    return found


def _table(rows: Sequence[Row]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows, flat, and the names of all their fields in order of first appearance."""
    lines = [flat(row) for row in rows]
    return lines, list(dict.fromkeys(name for line in lines for name in line))


def _csv(results: Mapping[str, Any], rows: Sequence[Row], out: Path) -> None:
    lines, names = _table(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    atomic_write_text(out, text.getvalue())


def _parquet(results: Mapping[str, Any], rows: Sequence[Row], out: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConfigError("Parquet needs pyarrow: pip install 'longalign[documents]'") from None
    lines, names = _table(rows)
    columns = {name: _column([line.get(name) for line in lines]) for name in names}
    with atomic_path(out) as temporary:
        pq.write_table(pa.table(columns), temporary)


def _column(values: list[Any]) -> list[Any]:
    """Parquet's columns have one type: numbers of both kinds as floats, anything mixed as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        return [None if value is None else float(value) for value in values]
    return values if len(kinds) <= 1 else [None if value is None else str(value) for value in values]


def _inspect(results: Mapping[str, Any], rows: Sequence[Row], out: Path) -> None:
    """Inspect's log (`.json`), which `inspect view` shows and `inspect_ai.log.read_eval_log` reads."""
    how, model = compared_by(results), str(results["model"])
    scored = [row for row in rows if row.get("score") is not None]
    metrics = {name: {"name": name, "value": value} for name, value in _numbers(results["overall"]).items()}
    score = {
        "name": results["task"],
        "scorer": "longalign",
        "scored_samples": len(scored),
        "unscored_samples": len(rows) - len(scored),
        "metrics": metrics,
    }
    log = {
        "version": 2,
        "status": "success",
        "eval": {
            "created": results["created"],
            "task": f"longalign/{results['task']}",
            "task_id": results["task"],
            "run_id": results["task"],
            "dataset": {"name": results["task"], "samples": len(rows), "sample_ids": [row["key"] for row in rows]},
            "model": model,
            "config": {},
            "packages": {"longalign": version("longalign")},
            "metadata": {"label": results["label"], "schema": results.get("schema", 0)},
        },
        "results": {"total_samples": len(rows), "completed_samples": len(scored), "scores": [score]},
        "samples": [_sample(how, row, model, results["task"]) for row in rows],
    }
    atomic_write_text(out, json.dumps(log, ensure_ascii=False, indent=1))


def _sample(how: Compared, row: Row, model: str, task: str) -> dict[str, Any]:
    expected = row.get("expected", "")
    choices = [{"message": {"role": "assistant", "content": row["answer"]}}] if row.get("answer") is not None else []
    known = ("key", "question", "expected", "answer", "score")
    sample: dict[str, Any] = {
        "id": row["key"],
        "epoch": 1,
        "input": str(row.get("question", "")),
        "target": [str(each) for each in expected] if isinstance(expected, list) else str(expected),
        "output": {"model": model, "choices": choices},
        "metadata": {key: value for key, value in row.items() if key not in known},
        "scores": {},
    }
    if row.get("score") is not None:
        details = flat(row["score"]) if isinstance(row["score"], Mapping) else {}
        sample["scores"] = {task: {"value": how.value(row), "answer": row.get("answer"), "metadata": details}}
    return sample


def _lm_eval(results: Mapping[str, Any], rows: Sequence[Row], out: Path) -> None:
    """The harness's results file: the task, and a task for each of its groups; with intervals, no standard errors."""
    task = f"longalign_{results['task']}"
    groups = {task: results["overall"]}
    for name in GROUPS:
        groups |= {f"{task}_{part}": row for part, row in (results.get(name) or {}).items() if "questions" in row}
    found = {name: row for name, row in groups.items() if headline(row) is not None}
    text = json.dumps(
        {
            "results": {name: _harness(name, row) for name, row in found.items()},
            "versions": dict.fromkeys(found, 1),
            "n-shot": dict.fromkeys(found, 0),
            "higher_is_better": {name: {_measure(row): True} for name, row in found.items()},
            "n-samples": {
                name: {"original": row["questions"], "effective": row["scored"]} for name, row in found.items()
            },
            "configs": {name: {"task": name, "metadata": {"made_by": "longalign"}} for name in found},
            "model_name": results["label"],
            "model_source": str(results["model"]),
            "lm_eval_version": None,
        },
        ensure_ascii=False,
        indent=1,
    )
    atomic_write_text(out, text)


def _harness(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    measure = _measure(row)
    return {
        "alias": name,
        f"{measure},none": headline(row),
        f"{measure}_stderr,none": "N/A",
        "interval_95": [row.get("low"), row.get("high")],
        "failed": row.get("failed", 0),
    }


def _measure(row: Mapping[str, Any]) -> str:
    return "acc" if row.get("accuracy") is not None else "mean"


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value for name, value in row.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


FORMS: dict[str, Callable[[Mapping[str, Any], Sequence[Row], Path], None]] = {
    "csv": _csv,
    "parquet": _parquet,
    "inspect": _inspect,
    "lm-eval": _lm_eval,
}
