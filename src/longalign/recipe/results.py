"""results.json of a run: what was measured, by task, model and length, with means over seeds."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from longalign.eval.task import EVAL_PARTS, JUDGED_PARTS

MEASURES = ("accuracy", "name_accuracy", "mean", "share")
COUNTS = ("questions", "failed", "unscored")


def over_seeds(name: str, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, with each seed's value and the counts of what has no score."""
    parts = {"needle": "by_length", "leaderboard": "tasks"}.get(name)
    if parts:
        rows = list(next(iter(runs.values()))[parts])
        return {row: _mean_rows([r[parts][row] for r in runs.values()], list(runs)) for row in rows}
    return _mean_rows([r["overall"] for r in runs.values()], list(runs))


def _mean_rows(rows: list[dict[str, Any]], seeds: list[str]) -> dict[str, Any]:
    measures = [key for key in MEASURES if key in rows[0]]
    out: dict[str, Any] = {}
    for key in measures:
        values = [row[key] for row in rows if row[key] is not None]
        out[key] = round(fmean(values), 4) if values else None
    first = measures[0] if measures else None
    if first and seeds != ["None"]:
        out["by_seed"] = {seed: row[first] for seed, row in zip(seeds, rows, strict=True)}
    for count in COUNTS:
        if count in rows[0]:
            out[count] = sum(row[count] for row in rows)
    return out


def results_table(results: dict[str, Any]) -> str:
    """Models by lengths and scores, as plain text."""
    needle, short = results.get("needle", {}), results.get("short", {})
    judged = [name for name in JUDGED_PARTS if name in results]
    labels = list(dict.fromkeys(label for name in EVAL_PARTS for label in results.get(name, {})))
    lengths = list(next(iter(needle.values()))) if needle else []
    heads = [*(f"{length:>8}" for length in lengths), f"{'short':>8}", *(f"{name:>10}" for name in judged)]
    lines = [f"{'needle accuracy at':<18}" + "".join(heads)]
    for label in labels:
        cells = [needle.get(label, {}).get(length, {}).get("accuracy") for length in lengths]
        cells += [short.get(label, {}).get("accuracy")]
        scores = [_score(results[name].get(label, {})) for name in judged]
        shown = [f"{'-' if v is None else f'{v:.2f}':>8}" for v in cells]
        lines.append(f"{label:<18}" + "".join([*shown, *(f"{'-' if v is None else f'{v:.2f}':>10}" for v in scores)]))
    return "\n".join(lines)


def _score(row: dict[str, Any]) -> float | None:
    """The mean on the judge's scale; where scales are mixed, of 100."""
    mean: float | None = row.get("mean")
    return row.get("share") if mean is None else mean
