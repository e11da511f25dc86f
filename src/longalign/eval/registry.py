"""Finds a task by name: those of this package (`TASKS`), of installed packages, or your own as `module:Class`."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard

from longalign.config import EvalSettings, Settings, TaskSettings
from longalign.config.load import build
from longalign.errors import ConfigError, nearest

if TYPE_CHECKING:
    from longalign.eval.task import Task  # `report` needs names only

TASKS = {
    "needle": "longalign.eval.needle:Needle",
    "synthetic": "longalign.eval.synthetic.task:Synthetic",
    "short": "longalign.eval.short:Short",
    "longbench_chat": "longalign.eval.longbench_chat:LongBenchChat",
    "longbench": "longalign.eval.longbench:LongBench",
    "longbench_v1": "longalign.eval.longbench_v1:LongBenchV1",
    "longbench_v2": "longalign.eval.longbench_v2:LongBenchV2",
    "mt_bench": "longalign.eval.mt_bench:MTBench",
    "position": "longalign.eval.position:Position",
    "leaderboard": "longalign.eval.leaderboard:Leaderboard",
}
EARLIER_NAMES = {"chat": "longbench_chat"}
"""Names of tasks in results and folders of earlier versions."""
ENTRY_POINTS = "longalign.tasks"
RESERVED = {"task", *(name for name in EvalSettings.model_fields if name not in (*TASKS, "tasks"))}
"""Settings of every evaluation, which a task cannot use as names of its own."""


def current_name(name: str) -> str:
    """Today's name of a task."""
    return EARLIER_NAMES.get(name, name)


def first_name(name: str) -> str:
    """The name a task began with; random draws are keyed by it, so that a new name does not change a figure."""
    return next((old for old, new in EARLIER_NAMES.items() if new == name), name)


def known_tasks() -> dict[str, str]:
    """Name -> `module:Class`, of this package and of installed ones (entry points `longalign.tasks`)."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} | TASKS


def find_task(name: str) -> type[Task[Any]]:
    """The task of a name or of `module:Class`; modules are looked for in the current folder as well.

    Raises `ConfigError` for what is not there or no task.
    """
    known = known_tasks()
    place = name if ":" in name else known.get(current_name(name))
    if place is None:
        raise ConfigError(
            f"there is no task `{name}`{nearest(name, list(known))}; there are {', '.join(known)}, "
            "and those of your own are named my_package.my_task:MyTask"
        )
    module, _, attribute = place.partition(":")
    found = getattr(_import(name, module), attribute, None)
    if not _is_task(found):
        others = [key for key, value in vars(sys.modules[module]).items() if _is_task(value)]
        raise ConfigError(f"task `{name}`: `{attribute}` of {module} is no Task{nearest(attribute, others)}")
    if missing := [key for key in ("name", "title", "settings_class") if not hasattr(found, key)]:
        raise ConfigError(f"task `{name}`: {attribute} does not set {', '.join(missing)}")
    if not (isinstance(found.settings_class, type) and issubclass(found.settings_class, Settings)):
        raise ConfigError(f"task `{name}`: settings_class of {attribute} is no class of longalign.config.Settings")
    if lacking := getattr(found, "__abstractmethods__", None):
        raise ConfigError(f"task `{name}`: {attribute} does not define {', '.join(sorted(lacking))}")
    if not found.name.isidentifier() or known.get(found.name, place) != place:
        raise ConfigError(f"task `{name}`: `{found.name}` is no name, or that of another task; choose another `name`")
    if taken := RESERVED & found.settings_class.model_fields.keys():
        raise ConfigError(f"task `{name}`: `{min(taken)}` is a setting of every evaluation; name its own another way")
    return found


def tasks_of(settings: TaskSettings) -> list[Task[Any]]:
    """The tasks that are set, in the order of `TASKS` and then of the settings. Raises `ConfigError` as `find_task`
    does, and for settings that a task does not have."""
    built_in = {name: getattr(settings, name, None) for name in TASKS}
    found = [find_task(name)(wanted) for name, wanted in built_in.items() if wanted is not None]
    for name, values in settings.tasks.items():
        if values is None:
            continue
        if name in EvalSettings.model_fields:
            raise ConfigError(f"eval.tasks.{name}: write eval.{name}, without `tasks`")
        cls = find_task(str(values.get("task", name)))
        if cls.name != name:
            raise ConfigError(f"eval.tasks.{name}: the task calls itself `{cls.name}`; write eval.tasks.{cls.name}")
        own = {key: value for key, value in values.items() if key != "task"}
        found.append(cls(build(cls.settings_class, own, f"eval.tasks.{name}")))
    return found


def key_of(task: Task[Any]) -> str:
    """Where a recipe holds the settings of a task."""
    return f"eval.{task.name}" if task.name in EvalSettings.model_fields else f"eval.tasks.{task.name}"


def as_settings(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """What `EvalSettings` needs for one task of any name: `{"short": {...}}` or `{"tasks": {"mine": {...}}}`."""
    cls = find_task(name)
    if cls.name in EvalSettings.model_fields:
        return {cls.name: values}
    return {"tasks": {cls.name: {"task": name, **values}}}


def _import(name: str, module: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # the `longalign` program does not look there by itself
    if not all(part.isidentifier() for part in module.split(".")):
        raise ConfigError(f"task `{name}`: `{module}` names no module; write my_package.my_task:MyTask, no path")
    try:
        return importlib.import_module(module)
    except Exception as error:  # a module of the user's may raise anything
        why = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"task `{name}`: {module} cannot be imported ({why})") from None


def _is_task(value: object) -> TypeGuard[type[Task[Any]]]:
    from longalign.eval.task import Task

    return isinstance(value, type) and issubclass(value, Task)
