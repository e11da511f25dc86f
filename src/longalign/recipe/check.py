"""Checks that everything a recipe reads exists, before anything runs: no missing file should end hours of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from longalign.base.sources import Named, model_dir, not_there
from longalign.config import ExtendSettings, RunSettings, TrainSettings
from longalign.errors import DataError, ModelError
from longalign.eval.registry import key_of, tasks_of
from longalign.recipe.arms import arm_settings, extension_names

if TYPE_CHECKING:
    from longalign.eval.task import Task


def check_inputs(settings: RunSettings, *, evaluated: bool = False) -> None:
    """Raise `DataError` for documents and files that are not there, `ModelError` for a model that cannot be used, and
    what the endpoints of data and judges would raise at once (unless a run has been `evaluated`: it needs no keys).

    Of documents the first one is read. Finished stages are not touched before this has passed.
    """
    from longalign.data.source import read_documents

    for name in dict.fromkeys(documents(settings)):
        if not Named(name).bundled:
            next(read_documents([name]))
    for key, path in files(settings):
        if not Named(path).here:
            raise DataError(f"{key}: {path}: {not_there(path)}")
    check_model(settings, model_dir(settings.model))
    if not evaluated:
        check_endpoints(settings)


def check_endpoints(settings: RunSettings) -> None:
    """Raise for a missing key, an SDK that is not installed, or what a task lacks; nothing is called."""
    from longalign.llm import open as llm

    for wanted in settings.data.values():
        llm.check_model(wanted.llm)
    for _, task in all_tasks(settings):
        task.check()


def check_model(settings: RunSettings, source: str) -> None:
    """Raise `ModelError` when what the config in `source` describes cannot be extended or trained exactly."""
    if not settings.extensions and not settings.train.arms:
        return
    from longalign.train.model import check_supported, load_config
    from longalign.train.stretch import stretch_rope

    config = load_config(source)
    check_supported(config, needs_rope=bool(settings.extensions))
    text = config.get_text_config()
    for name, stage in zip(extension_names(settings), settings.extensions, strict=True):
        try:  # each from what the one before makes, which would otherwise show after hours
            text, _ = stretch_rope(text, stage.rope, stage.window)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from None


def documents(settings: RunSettings) -> Iterator[str]:
    """Names of everything that is read as documents."""
    for stage in settings.extensions:
        yield from stage.text
    for wanted in settings.data.values():
        yield from wanted.documents
    for _, task in all_tasks(settings):
        for names in task.reads().documents.values():
            yield from names


def files(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """(key of the recipe, path) of the other files it reads; rows of arms are looked for with the arms."""
    for name, wanted in settings.data.items():
        yield from ((f"data.{name}.decontaminate", path) for path in wanted.decontaminate)
    for stage in settings.extensions:
        yield from (("extend.data", path) for path in stage.data)
    yield from (("train.eval_data", path) for path in settings.train.eval_data)
    yield from ((f"{where}.lora_adapter", loop.lora_adapter) for where, loop in loops(settings) if loop.lora_adapter)
    templates = [("eval", settings.eval.chat_template), ("train", settings.train.chat_template)]
    templates += [(f"train.arms.{arm}", own.get("chat_template")) for arm, own in settings.train.arms.items()]
    asked = [(f"{where}.eval_tasks", loop.eval_tasks) for where, loop in loops(settings)]
    templates += [(where, tasks.chat_template) for where, tasks in asked if tasks]
    yield from ((f"{where}.chat_template", path) for where, path in templates if path)
    for where, task in all_tasks(settings):
        for key, paths in task.reads().files.items():
            yield from ((f"{where}.{key}", path) for path in paths)


def all_tasks(settings: RunSettings) -> Iterator[tuple[str, Task[Any]]]:
    """(key of the recipe, task) of `eval` and of what is asked while training."""
    yield from ((key_of(task), task) for task in tasks_of(settings.eval))
    for where, loop in loops(settings):
        if loop.eval_tasks:
            yield from ((f"{where}.eval_tasks.{task.name}", task) for task in tasks_of(loop.eval_tasks))


def loops(settings: RunSettings) -> Iterator[tuple[str, ExtendSettings | TrainSettings]]:
    """(name, settings) of every training."""
    yield from zip(extension_names(settings), settings.extensions, strict=True)
    yield from ((f"train.arms.{arm}", arm_settings(settings, arm)) for arm in settings.train.arms)
