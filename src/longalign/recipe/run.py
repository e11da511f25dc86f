"""The whole recipe over one run folder: extend -> data -> train -> eval -> report.

    OUT/run.json                 the resolved recipe          OUT/results.json   what was measured, by model
    OUT/extend/, extend-2/, ...  the extended models          OUT/throughput/    batching strategies side by side
    OUT/data/NAME/rows.jsonl     built instructions           OUT/report.html    the page
    OUT/train/ARM-seedN/         one fine-tuned model an arm and seed
    OUT/eval/LABEL/              needle, short, longbench_chat, ... of one model

Every stage skips finished work, so the same call resumes after a kill, or redoes only the stages that a changed
setting affects.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, make_folder
from longalign.base.machine import describe_machine
from longalign.base.progress import say
from longalign.base.stage import lock
from longalign.config import RunSettings
from longalign.eval.registry import tasks_of
from longalign.recipe.arms import (
    arm_settings,
    check,
    extension_names,
    fit_arms,
    row_files,
    rows_file,
    stage_folders,
)
from longalign.recipe.check import check_inputs
from longalign.recipe.launch import refuse_torchrun, run_stage
from longalign.recipe.results import over_seeds, results_table


def run(settings: RunSettings, out: Path, *, plan_only: bool = False, restart: bool = False) -> dict[str, Any]:
    """Run the recipe into `out`; returns results and the path of the page. `plan_only` says what each stage would do.

    `restart` allows checkpoints of other settings to be set aside. What would fail after hours is found before anything
    runs: see `check` and `check_inputs` for the errors.
    """
    if plan_only:
        from longalign.recipe.plan import plan_run
        from longalign.recipe.plan_text import run_plan_summary

        return run_plan_summary(plan_run(settings, out))
    refuse_torchrun()
    check(settings, out)
    make_folder(out)
    with lock(out):
        check_inputs(settings, evaluated=_evaluated(settings, out))
        resolved = settings.model_dump(mode="json") | {"machine": describe_machine()}
        start = time.monotonic()
        window_model = _extend(settings, out, restart=restart)
        built = _build_data(settings, out)
        settings, notes = fit_arms(settings, built)
        models = _train(settings, out, window_model, restart=restart)
        atomic_write_json(out / "run.json", resolved)  # not earlier: a stage may refuse a changed setting
        _measure_throughput(settings, out, window_model)
        results = _evaluate(settings, out, {"base": settings.model, "extended": window_model}, models)
        return _report(settings, out, results, notes, wall_s=round(time.monotonic() - start, 1))


def _evaluated(settings: RunSettings, out: Path) -> bool:
    """Whether this very recipe has been through its evaluations before."""
    if not (out / "run.json").exists() or not (out / "results.json").exists():
        return False
    before = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return bool(settings.model_dump(mode="json").items() <= before.items())


def _extend(settings: RunSettings, out: Path, *, restart: bool) -> str:
    """The model with the long window: the last extended one, or the given one where the recipe extends nothing."""
    model = settings.model
    for name, stage in zip(extension_names(settings), settings.extensions, strict=True):
        _announce(name)
        wanted = stage.model_copy(update={"model": model})
        run_stage("extend", wanted, out / name, processes=settings.processes_per_node, restart=restart)
        model = str(out / name / "final")
    return model


def _build_data(settings: RunSettings, out: Path) -> dict[str, int]:
    """Name of each set -> rows it has."""
    from longalign.data.build import build

    built = {}
    for name, wanted in settings.data.items():
        _announce(f"data: {name}")
        built[name] = int(build(wanted, rows_file(out, name).parent)["rows"])
    return built


def _train(settings: RunSettings, out: Path, model: str, *, restart: bool) -> dict[tuple[str, int], str]:
    """(arm, seed) -> model directory."""
    models = {}
    for arm in settings.train.arms:
        for seed in settings.seeds:
            _announce(f"train: {arm}, seed {seed}")
            fixed = {"model": model, "seed": seed, "data": row_files(settings, arm, out)}
            folder = out / "train" / f"{arm}-seed{seed}"
            wanted = arm_settings(settings, arm, **fixed)
            run_stage("train", wanted, folder, processes=settings.processes_per_node, restart=restart)
            models[arm, seed] = str(folder / "final")
    return models


def _measure_throughput(settings: RunSettings, out: Path, model: str) -> None:
    """Padded, sorted, packed and balanced on the rows of the last arm, for the page."""
    if not settings.throughput_rows or not settings.train.arms:
        return
    from longalign.train.compare_strategies import measure

    _announce("throughput of the batching strategies")
    arm = list(settings.train.arms)[-1]
    fixed = {"model": model, "seed": 0, "data": row_files(settings, arm, out)}
    measure(arm_settings(settings, arm, **fixed), out / "throughput", rows=settings.throughput_rows)


def _evaluate(
    settings: RunSettings, out: Path, untrained: dict[str, str], trained: dict[tuple[str, int], str]
) -> dict[str, Any]:
    from longalign.eval.evaluate import evaluate

    tasks = tasks_of(settings.eval)
    wanted: list[tuple[str, str, int | None, Path]] = []
    for label, model in untrained.items():
        if label == "base" or model != settings.model:
            wanted.append((label, model, None, out / "eval" / label))
    for (arm, seed), model in trained.items():
        wanted.append((f"sft-{arm}", model, seed, out / "eval" / f"sft-{arm}-seed{seed}"))
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for label, model, trained_with, folder in wanted if tasks else []:
        _announce(f"eval: {label}" + ("" if trained_with is None else f", seed {trained_with}"))
        own = settings.eval.model_copy(update={"model": model, "label": label, "model_seed": trained_with})
        measured = evaluate(own, folder)
        for task in tasks:
            by_seed = results.setdefault(task.name, {}).setdefault(label, {})
            by_seed[str(trained_with)] = measured if len(tasks) == 1 else measured[task.name]
    summary = {
        task.name: {label: over_seeds(task.listed, runs) for label, runs in results[task.name].items()}
        for task in tasks
    }
    atomic_write_json(out / "results.json", summary)
    return summary


def _report(
    settings: RunSettings, out: Path, results: dict[str, Any], notes: list[str], *, wall_s: float
) -> dict[str, Any]:
    from longalign.report.page import report

    _announce("report")
    page = report([out], out / "report.html", only=stage_folders(settings, out))
    said = [page["verdict"], *(f"note: {note}" for note in notes)]
    text = "\n\n".join([results_table(results), *said, f"This call took {wall_s:.0f} s.\nPage: {out / 'report.html'}"])
    return {
        "results": results,
        "verdict": page["verdict"],
        "notes": notes,
        "report": str(out / "report.html"),
        "text": text,
    }


def _announce(stage: str) -> None:
    say(f"\n== {stage}")
