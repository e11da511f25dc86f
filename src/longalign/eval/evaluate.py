"""The eval stage: one runner for every task on one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import create_model

from longalign.base.files import atomic_write_json, write_jsonl
from longalign.base.stage import StageRun, open_stage, read_manifest
from longalign.config import EvalSettings
from longalign.errors import ConfigError
from longalign.eval.endings import ending_lines
from longalign.eval.identity import identity
from longalign.eval.registry import EARLIER_NAMES, TASKS, current_name, tasks_of
from longalign.eval.results import RESULTS, SCORES, TaskResults
from longalign.eval.subject import model_fingerprint
from longalign.eval.task import Task


def evaluate(settings: EvalSettings, out: Path) -> dict[str, Any]:
    """Run the tasks that are set. One task writes into `out` itself; several into `out/needle`, `out/short`, ...,
    and then `out/results.json` holds `{task: results}`."""
    wanted = tasks_of(settings)
    if not wanted:
        raise ConfigError(
            f"nothing to evaluate: set at least one of {', '.join(f'eval.{name}' for name in TASKS)} or eval.tasks"
        )
    if len(wanted) == 1:
        results = run_task(wanted[0], settings, out)
        return results | {"text": text_of(wanted[0], results)}
    found = {task.name: run_task(task, settings, task_folder(out, task.name)) for task in wanted}
    atomic_write_json(out / RESULTS, found)
    return found | {"text": "\n\n".join(text_of(task, found[task.name]) for task in wanted)}


def text_of(task: Task[Any], results: dict[str, Any]) -> str:
    """The results for a person, and how answers ended that did not end well."""
    return "\n".join([*task.lines(results), *ending_lines(results)])


def run_task(task: Task[Any], settings: EvalSettings, out: Path) -> dict[str, Any]:
    """One task as a stage: `answers.jsonl`, `scores.jsonl` and `results.json` in `out`; returns the results.

    The stage stays open while failures may pass (server down, money cap). `label` and `model_seed` of the settings are
    written into finished results too.
    """
    inputs = {"model": model_fingerprint(settings), **task.reads().fingerprints()}
    name, own = stage_name(out, task.name), one_task(settings, task)
    with open_stage(out, name, settings=own, inputs=inputs, version=task.version) as stage:
        if stage.done:
            return _named_anew(stage, settings)
        task.check()
        measured = task.measure(settings, out)
        results = TaskResults(
            task=task.name,
            title=task.title,
            label=settings.label or measured.model.model,
            model_seed=settings.model_seed,
            identity=identity(settings),
            compared=task.compared,
            measured=measured,
        ).to_file()
        write_jsonl(out / SCORES, measured.rows)
        atomic_write_json(out / RESULTS, results)
        return results if measured.waiting else stage.finish(results)


def one_task(settings: EvalSettings, task: Task[Any]) -> EvalSettings:
    """The settings with one task only, so that another task's settings do not enter its fingerprint.

    A task that `EvalSettings` has no key for gets one, so that its settings are validated, and count, like all others.
    """
    none: dict[str, Any] = {"tasks": {}, **dict.fromkeys(TASKS.keys() & EvalSettings.model_fields.keys())}
    if task.name in EvalSettings.model_fields:
        return settings.model_copy(update={**none, task.name: task.settings})
    fields: dict[str, Any] = {task.name: (type(task.settings) | None, None)}
    cls = create_model("EvalSettings", __base__=EvalSettings, **fields)
    common = {name: getattr(settings, name) for name in EvalSettings.model_fields if name not in none}
    return cls(**common, **{task.name: task.settings})


def task_folder(out: Path, name: str) -> Path:
    """Where one of several tasks lies; work that lies under an earlier name of the task stays there."""
    before = [out / old for old, new in EARLIER_NAMES.items() if new == name and (out / old).is_dir()]
    return before[0] if before and not (out / name).exists() else out / name


def stage_name(out: Path, name: str) -> str:
    """The name of the stage in a folder: the task's name, or the earlier one that the folder already has."""
    manifest = read_manifest(out)
    written = str(manifest["stage"]) if manifest else name
    return written if current_name(written) == name else name


def _named_anew(stage: StageRun, settings: EvalSettings) -> dict[str, Any]:
    """The results of a finished stage under the label and seed of these settings; calls no model."""
    results = stage.summary
    label = settings.label or results.get("model", results["label"])
    if (label, settings.model_seed) == (results["label"], results["model_seed"]):
        return results
    results = results | {"label": label, "model_seed": settings.model_seed}
    atomic_write_json(stage.folder / RESULTS, results)
    stage.manifest["summary"] = results
    stage.manifest["settings"] |= {"label": settings.label, "model_seed": settings.model_seed}
    stage.save()
    return results
