"""The whole recipe over one run folder: extend -> data -> train -> eval -> report.

    OUT/run.json                 the resolved recipe          OUT/results.json   what was measured, by model
    OUT/extend/                  the extended model           OUT/throughput/    batching strategies side by side
    OUT/data/NAME/rows.jsonl     built instructions           OUT/report.html    the page
    OUT/train/ARM-seedN/         one fine-tuned model an arm and seed
    OUT/eval/LABEL/              needle, short, chat of one model

Every stage skips what is done, so the same call again carries on after a kill, or redoes only what a changed
setting reaches.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from longalign.builtin import is_builtin
from longalign.config import EvalSettings, RunSettings
from longalign.errors import ConfigError
from longalign.machine import describe_machine
from longalign.progress import say
from longalign.recipe import arm_settings, nearest
from longalign.run import atomic_write_json, lock

MEASURES = ("accuracy", "name_accuracy")


def run(settings: RunSettings, out: Path, *, plan_only: bool = False) -> dict[str, Any]:
    """Run the recipe into `out`; returns results and the path of the page. `plan_only` says what each stage would do.

    Raises `ConfigError` before anything runs when an arm names rows that the recipe does not build and no file holds.
    """
    for arm in settings.train.arms:
        arm_settings(settings, arm, data=_row_files(settings, arm, out))
    out.mkdir(parents=True, exist_ok=True)
    with lock(out):
        atomic_write_json(out / "run.json", settings.model_dump(mode="json") | {"machine": describe_machine()})
        if plan_only:
            return _plan(settings, out)
        start = time.monotonic()
        window_model = _extend(settings, out)
        _build_data(settings, out)
        models = _train(settings, out, window_model)
        _measure_throughput(settings, out, window_model)
        results = _evaluate(settings, out, {"base": settings.model, "extended": window_model}, models)
        return _report(out, results, wall_s=round(time.monotonic() - start, 1))


def _extend(settings: RunSettings, out: Path) -> str:
    """The model with the long window: the extended one, or the given one where the recipe extends nothing."""
    if settings.extend is None:
        return settings.model
    from longalign.train.extend import extend

    _announce("extend")
    fixed = {"model": settings.model}
    return str(extend(settings.extend.model_copy(update=fixed), out / "extend")["final"])


def _build_data(settings: RunSettings, out: Path) -> None:
    from longalign.data.build import build

    for name, wanted in settings.data.items():
        _announce(f"data: {name}")
        build(wanted, _rows_file(out, name))


def _train(settings: RunSettings, out: Path, model: str) -> dict[tuple[str, int], str]:
    """(arm, seed) -> model directory."""
    from longalign.train.sft import train

    models = {}
    for arm in settings.train.arms:
        for seed in settings.seeds:
            _announce(f"train: {arm}, seed {seed}")
            fixed = {"model": model, "seed": seed, "data": _row_files(settings, arm, out)}
            summary = train(arm_settings(settings, arm, **fixed), out / "train" / f"{arm}-seed{seed}")
            models[arm, seed] = str(summary["final"])
    return models


def _measure_throughput(settings: RunSettings, out: Path, model: str) -> None:
    """Padded, sorted, packed and balanced on the rows of the last arm, for the page."""
    if not settings.throughput_rows or not settings.train.arms:
        return
    from longalign.train.throughput import measure

    _announce("throughput of the batching strategies")
    arm = list(settings.train.arms)[-1]
    fixed = {"model": model, "seed": 0, "data": _row_files(settings, arm, out)}
    measure(arm_settings(settings, arm, **fixed), out / "throughput", rows=settings.throughput_rows)


def _evaluate(
    settings: RunSettings, out: Path, untrained: dict[str, str], trained: dict[tuple[str, int], str]
) -> dict[str, Any]:
    from longalign.eval.evaluate import evaluate

    wanted: list[tuple[str, str, int | None, Path]] = []
    for label, model in untrained.items():
        if label == "base" or model != settings.model:
            wanted.append((label, model, None, out / "eval" / label))
    for (arm, seed), model in trained.items():
        wanted.append((f"sft-{arm}", model, seed, out / "eval" / f"sft-{arm}-seed{seed}"))
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for label, model, trained_with, folder in wanted:
        _announce(f"eval: {label}" + ("" if trained_with is None else f", seed {trained_with}"))
        part = settings.eval.model_copy(update={"model": model, "label": label, "model_seed": trained_with})
        for name, measured in _by_part(part, evaluate(part, folder)):
            results.setdefault(name, {}).setdefault(label, {})[str(trained_with)] = measured
    summary = {
        name: {label: _over_seeds(name, runs) for label, runs in found.items()} for name, found in results.items()
    }
    atomic_write_json(out / "results.json", summary)
    return summary


def _by_part(settings: EvalSettings, measured: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    parts = [name for name in ("needle", "short", "chat") if getattr(settings, name) is not None]
    for name in parts:
        yield name, measured if len(parts) == 1 else measured[name]


def _over_seeds(name: str, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, with each seed's value and the counts of what has no score."""
    if name == "needle":
        lengths = list(next(iter(runs.values()))["by_length"])
        return {length: _mean_rows([r["by_length"][length] for r in runs.values()], list(runs)) for length in lengths}
    return _mean_rows([r["overall"] for r in runs.values()], list(runs))


def _mean_rows(rows: list[dict[str, Any]], seeds: list[str]) -> dict[str, Any]:
    measures = [key for key in (*MEASURES, "mean", "share") if key in rows[0]]
    out: dict[str, Any] = {}
    for key in measures:
        values = [row[key] for row in rows if row[key] is not None]
        out[key] = round(fmean(values), 4) if values else None
    first = measures[0] if measures else None
    out["by_seed"] = {seed: row[first] for seed, row in zip(seeds, rows, strict=True)} if first else {}
    for count in ("questions", "failed", "unscored"):
        if count in rows[0]:
            out[count] = sum(row[count] for row in rows)
    return out


def _report(out: Path, results: dict[str, Any], *, wall_s: float) -> dict[str, Any]:
    from longalign.report.page import report

    _announce("report")
    page = report([out], out / "report.html")
    text = f"{_table(results)}\n\n{page['verdict']}\n\nThis call took {wall_s:.0f} s.\nPage: {out / 'report.html'}"
    return {"results": results, "verdict": page["verdict"], "report": str(out / "report.html"), "text": text}


def _table(results: dict[str, Any]) -> str:
    """Models by lengths and scores, as plain text."""
    needle, short, chat = (results.get(name, {}) for name in ("needle", "short", "chat"))
    labels = list(dict.fromkeys([*needle, *short, *chat]))
    lengths = list(next(iter(needle.values()))) if needle else []
    lines = [f"{'needle accuracy at':<18}" + "".join(f"{length:>8}" for length in lengths) + f"{'short':>8}{'chat':>8}"]
    for label in labels:
        cells = [needle.get(label, {}).get(length, {}).get("accuracy") for length in lengths]
        cells += [short.get(label, {}).get("accuracy"), chat.get(label, {}).get("mean")]
        lines.append(f"{label:<18}" + "".join(f"{'-' if v is None else f'{v:.2f}':>8}" for v in cells))
    return "\n".join(lines)


def _row_files(settings: RunSettings, arm: str, out: Path) -> dict[str, int | None]:
    """The rows of an arm: names of built sets become their files; other names must be files or bundled rows."""
    wanted = settings.train.arms[arm].get("data", settings.train.data)
    if not wanted:
        raise ConfigError(f"train.arms.{arm}: no `data`; name sets of the `data` section or files, each with a count")
    found: dict[str, int | None] = {}
    for name, rows in wanted.items():
        if name in settings.data:
            found[str(_rows_file(out, name))] = rows
        elif is_builtin(name) or Path(name).exists():
            found[name] = rows
        else:
            hint = nearest(name, list(settings.data))
            raise ConfigError(f"train.arms.{arm}.data: `{name}` is no set of the `data` section and no file{hint}")
    return found


def _rows_file(out: Path, name: str) -> Path:
    return out / "data" / name / "rows.jsonl"


def _plan(settings: RunSettings, out: Path) -> dict[str, Any]:
    """What each data set and arm would take. Steps of training are known once their rows are built."""
    from longalign.data.build import build

    plans = {name: build(wanted, _rows_file(out, name), plan_only=True) for name, wanted in settings.data.items()}
    lines = [f"data {name}:\n{plan['text']}" for name, plan in plans.items()]
    arms = {arm: _row_files(settings, arm, out) for arm in settings.train.arms}
    lines += [f"train {arm}: {len(settings.seeds)} seed(s) on {files}" for arm, files in arms.items()]
    return {"data": {n: p.get("plan") for n, p in plans.items()}, "arms": arms, "text": "\n\n".join(lines)}


def _announce(stage: str) -> None:
    say(f"\n== {stage}")
