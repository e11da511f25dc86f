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

import json
import time
from pathlib import Path
from typing import Any

from longalign.builtin import is_builtin
from longalign.config import RunSettings
from longalign.errors import ConfigError
from longalign.eval.parts import EVAL_PARTS
from longalign.launch import refuse_torchrun, run_stage
from longalign.machine import describe_machine
from longalign.pipeline_inputs import check_inputs
from longalign.pipeline_results import over_seeds, results_table
from longalign.progress import say
from longalign.recipe import arm_settings, nearest
from longalign.run import atomic_write_json, lock, make_folder


def run(settings: RunSettings, out: Path, *, plan_only: bool = False) -> dict[str, Any]:
    """Run the recipe into `out`; returns results and the path of the page. `plan_only` says what each stage would do.

    What would fail after hours is found before anything runs: see `check` and `check_inputs` for the errors.
    """
    if plan_only:
        from longalign.pipeline_plan import plan_run

        return plan_run(settings, out)
    refuse_torchrun()
    check(settings, out)
    make_folder(out)
    with lock(out):
        check_inputs(settings, evaluated=_evaluated(settings, out))
        atomic_write_json(out / "run.json", settings.model_dump(mode="json") | {"machine": describe_machine()})
        start = time.monotonic()
        window_model = _extend(settings, out)
        built = _build_data(settings, out)
        settings, notes = fit_arms(settings, built)
        models = _train(settings, out, window_model)
        _measure_throughput(settings, out, window_model)
        results = _evaluate(settings, out, {"base": settings.model, "extended": window_model}, models)
        return _report(settings, out, results, notes, wall_s=round(time.monotonic() - start, 1))


def _evaluated(settings: RunSettings, out: Path) -> bool:
    """Whether this very recipe has been through its evaluations before."""
    if not (out / "run.json").exists() or not (out / "results.json").exists():
        return False
    before = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return bool(settings.model_dump(mode="json").items() <= before.items())


def check(settings: RunSettings, out: Path) -> None:
    """Raise `ConfigError` when an arm names rows that nothing holds, or rows that the window would cut unasked."""
    if settings.train.data and not settings.train.arms:
        raise ConfigError("train.data is set but no arm trains on it; name one, for example `arms: {all: {}}`")
    if settings.train.arms and not settings.seeds:
        raise ConfigError("seeds is empty, so no arm would be trained; give one at least, for example `seeds: [0]`")
    for arm in settings.train.arms:
        arm_settings(settings, arm, data=_row_files(settings, arm, out))


def _extend(settings: RunSettings, out: Path) -> str:
    """The model with the long window: the extended one, or the given one where the recipe extends nothing."""
    if settings.extend is None:
        return settings.model
    _announce("extend")
    fixed = {"model": settings.model}
    wanted = settings.extend.model_copy(update=fixed)
    run_stage("extend", wanted, out / "extend", processes=settings.processes_per_node)
    return str(out / "extend" / "final")


def _build_data(settings: RunSettings, out: Path) -> dict[str, int]:
    """Name of each set -> rows it has."""
    from longalign.data.build import build

    built = {}
    for name, wanted in settings.data.items():
        _announce(f"data: {name}")
        built[name] = int(build(wanted, _rows_file(out, name))["rows"])
    return built


def fit_arms(settings: RunSettings, built: dict[str, int]) -> tuple[RunSettings, list[str]]:
    """The recipe with arms that ask for no more rows than the documents gave, and what to tell the person about it.

    All arms shrink by one share, so that what differs between them stays what the recipe made differ.
    """
    drawn = {arm: own.get("data", settings.train.data) for arm, own in settings.train.arms.items()}
    short = {name: f"{rows} of {settings.data[name].rows} {name} rows" for name, rows in built.items()}
    wanted = [(name, rows) for data in drawn.values() for name, rows in data.items() if name in built and rows]
    share = min((built[name] / rows for name, rows in wanted), default=1.0)
    if share >= 1:
        return settings, []
    lacking = [short[name] for name in built if any(n == name and rows > built[name] for n, rows in wanted)]
    arms = {
        arm: settings.train.arms[arm]
        | {"data": {n: max(int(r * share), 1) if n in built and r else r for n, r in data.items()}}
        for arm, data in drawn.items()
    }
    note = f"the documents gave {' and '.join(lacking)}; every arm takes {share:.1%} of the built rows it names"
    say(f"note: {note}")
    return settings.model_copy(update={"train": settings.train.model_copy(update={"arms": arms})}), [note]


def _train(settings: RunSettings, out: Path, model: str) -> dict[tuple[str, int], str]:
    """(arm, seed) -> model directory."""
    models = {}
    for arm in settings.train.arms:
        for seed in settings.seeds:
            _announce(f"train: {arm}, seed {seed}")
            fixed = {"model": model, "seed": seed, "data": _row_files(settings, arm, out)}
            folder = out / "train" / f"{arm}-seed{seed}"
            run_stage("train", arm_settings(settings, arm, **fixed), folder, processes=settings.processes_per_node)
            models[arm, seed] = str(folder / "final")
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
    from longalign.eval.evaluate import PARTS, evaluate

    parts = [name for name in PARTS if getattr(settings.eval, name) is not None]
    wanted: list[tuple[str, str, int | None, Path]] = []
    for label, model in untrained.items():
        if label == "base" or model != settings.model:
            wanted.append((label, model, None, out / "eval" / label))
    for (arm, seed), model in trained.items():
        wanted.append((f"sft-{arm}", model, seed, out / "eval" / f"sft-{arm}-seed{seed}"))
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for label, model, trained_with, folder in wanted if parts else []:
        _announce(f"eval: {label}" + ("" if trained_with is None else f", seed {trained_with}"))
        part = settings.eval.model_copy(update={"model": model, "label": label, "model_seed": trained_with})
        measured = evaluate(part, folder)
        for name in parts:
            by_seed = results.setdefault(name, {}).setdefault(label, {})
            by_seed[str(trained_with)] = measured if len(parts) == 1 else measured[name]
    summary = {
        name: {label: over_seeds(name, runs) for label, runs in found.items()} for name, found in results.items()
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


def stage_folders(settings: RunSettings, out: Path) -> set[Path]:
    """Where this recipe's stages lie; arms, seeds and parts of an earlier recipe in the same folder stay out."""
    trained = [f"{arm}-seed{seed}" for arm in settings.train.arms for seed in settings.seeds]
    extended = ["extended"] if settings.extend else []
    evaluated = [out / "eval" / label for label in ("base", *extended, *(f"sft-{name}" for name in trained))]
    wanted = [part for part in EVAL_PARTS if getattr(settings.eval, part) is not None]
    inside = [""] if len(wanted) == 1 else wanted
    stages = {out / name for name, on in (("extend", settings.extend), ("throughput", settings.throughput_rows)) if on}
    stages |= {out / "train" / name for name in trained}
    return stages | {folder / part for folder in evaluated for part in inside}


def arm_rows(settings: RunSettings, arm: str) -> dict[str, int | None]:
    """The sets and files that an arm trains on, and how many rows of each; whether files are there is not asked.

    Raises `ConfigError` for an arm without rows, and for a set whose rows the arm's window would cut unasked.
    """
    wanted: dict[str, int | None] = settings.train.arms[arm].get("data", settings.train.data)
    if not wanted:
        raise ConfigError(f"train.arms.{arm}: no `data`; name sets of the `data` section or files, each with a count")
    found = arm_settings(settings, arm, data=wanted)
    for name in wanted:
        longest = settings.data[name].max_length_tokens if name in settings.data else 0
        if longest > found.window and "overlong" not in found.model_fields_set:
            raise ConfigError(
                f"data.{name}.max_length_tokens = {longest} is above the window of train.arms.{arm} "
                f"({found.window}), which would cut its rows; change one, or set train.overlong to say how to cut"
            )
    return wanted


def _row_files(settings: RunSettings, arm: str, out: Path) -> dict[str, int | None]:
    """The rows of an arm: names of built sets become their files; other names must be files or bundled rows."""
    found: dict[str, int | None] = {}
    for name, rows in arm_rows(settings, arm).items():
        if name in settings.data:
            found[str(_rows_file(out, name))] = rows
        elif is_builtin(name) or Path(name).exists():
            found[name] = rows
        else:
            raise no_rows(settings, arm, name)
    return found


def no_rows(settings: RunSettings, arm: str, name: str) -> ConfigError:
    """The complaint about a name in an arm's `data` that nothing stands behind."""
    hint = nearest(name, list(settings.data))
    return ConfigError(f"train.arms.{arm}.data: `{name}` is no set of the `data` section and no file{hint}")


def _rows_file(out: Path, name: str) -> Path:
    return out / "data" / name / "rows.jsonl"


def _announce(stage: str) -> None:
    say(f"\n== {stage}")
