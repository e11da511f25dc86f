"""Evaluation tasks on small samples while a model trains: a curve beside the loss.

    eval-tasks/step-<step>/TASK/      answers.jsonl and scores.jsonl of one measurement

Figures go into metrics.jsonl as `{"step", "tasks": {TASK: {...}}, "eval_s"}`. A measurement changes neither weights nor
random generators. One that a kill cut short carries on with the questions that are not answered yet, if the
weights are still those: the run must resume at the checkpoint of that very step.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from longalign.base.files import atomic_write_text, fingerprint, write_jsonl
from longalign.base.sources import Named
from longalign.base.tokenizers import open_tokenizer, read_chat_template
from longalign.config import LoopSettings
from longalign.errors import ConfigError, DataError
from longalign.eval.registry import tasks_of
from longalign.eval.results import SCORES, headline
from longalign.eval.subject import Subject
from longalign.eval.task import Task
from longalign.eval.token_view import TokenizerView
from longalign.train.live_model import LiveModel, answering, on_ranks

KEY = "key"


@dataclass(frozen=True)
class TaskCurve:
    """The tasks, when they run (`every` steps, at the first and the last), and where their answers are kept."""

    tasks: tuple[Task[Any], ...]
    tokenizer: Any
    every: int | None
    batch_tokens: int
    folder: Path
    key: str

    @classmethod
    def of(cls, settings: LoopSettings, tokenizer: str, out: Path) -> TaskCurve | None:
        """The curve that the settings ask for, if any. `tokenizer`: folder or hub id.

        Raises `ConfigError` and `DataError` before anything is trained: for a task that cannot be asked while training,
        for a tokenizer without a chat template, and for what a task lacks.
        """
        wanted = settings.eval_tasks
        if wanted is None:
            return None
        tasks = tuple(tasks_of(wanted))
        if not tasks:
            raise ConfigError("eval_tasks: names no task; give one, for example {needle: {lengths: [1024], depths: 2}}")
        for task in tasks:
            if type(task).measure_open is Task.measure_open:
                raise ConfigError(f"eval_tasks.{task.name}: it opens its model by itself; leave it to `longalign eval`")
            for name in inputs_of(task):
                if not Named(name).here:
                    raise DataError(f"eval_tasks.{task.name}: {name}: no such file or folder")
            task.check()
        opened = open_tokenizer(tokenizer)
        if wanted.chat_template:
            opened.chat_template = read_chat_template(wanted.chat_template)
        if not opened.chat_template:
            raise ConfigError(
                f"eval_tasks: the tokenizer of {tokenizer} has no chat template, so the model cannot be asked; set "
                "eval_tasks.chat_template to a Jinja file (recipes/templates/)"
            )
        key = fingerprint(opened.chat_template, [[task.name, task.settings.model_dump(mode="json")] for task in tasks])
        return cls(tasks, opened, settings.eval_task_steps, wanted.batch_tokens, out / "eval-tasks", key)

    def due(self, step: int, last: int) -> bool:
        """Whether it runs after `step` of `last`."""
        return step in (0, last) or (self.every is not None and step % self.every == 0)

    def forget_after(self, step: int | None) -> None:
        """Drop answers of later steps, which a resumed run measures again; None: all. For the first rank."""
        for place in self.folder.glob("step-*"):
            if step is None or int(place.name.removeprefix("step-")) > step:
                shutil.rmtree(place)

    def measure(
        self,
        model: nn.Module,
        step: int,
        *,
        together: bool,
        precision: Callable[[], AbstractContextManager[Any]],
        device: torch.device,
    ) -> dict[str, Any]:
        """Figures by task, the same on every rank; each calls it. together: weights are spread over the ranks."""
        live = LiveModel(
            model,
            self.tokenizer,
            name=f"step-{step}",
            batch_tokens=self.batch_tokens,
            precision=precision,
            device=device,
        )
        with answering(model):
            return on_ranks(live, partial(self._ask, live, step), together=together)

    def _ask(self, live: LiveModel, step: int) -> dict[str, Any]:
        place = self.folder / f"step-{step}"
        if not (place / KEY).exists() or (place / KEY).read_text(encoding="utf-8") != self.key:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            atomic_write_text(place / KEY, self.key)
        subject = Subject(live, TokenizerView(self.tokenizer), live.window, self.batch_tokens)
        found = {}
        for task in self.tasks:
            out = place / task.name
            out.mkdir(exist_ok=True)
            measured = task.measure_open(subject, out)
            write_jsonl(out / SCORES, measured.rows)
            found[task.name] = figures_of(asdict(measured.figures))
        return found


def inputs_of(task: Task[Any]) -> list[str]:
    """Every file and document a task reads."""
    reads = task.reads()
    return [name for names in (*reads.files.values(), *reads.documents.values()) for name in names]


def deciding_inputs(settings: LoopSettings) -> list[str]:
    """What the tasks read, where they decide which weights are kept."""
    if settings.best_by is None or settings.eval_tasks is None:
        return []
    template = settings.eval_tasks.chat_template
    found = [name for task in tasks_of(settings.eval_tasks) for name in inputs_of(task)]
    return [*found, *([template] if template else [])]


def figures_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers of `overall`, and the headline of each group: `{"accuracy": .., "by_length": {"1024": ..}}`."""
    overall = {key: value for key, value in results["overall"].items() if isinstance(value, int | float | None)}
    groups = {
        key: {name: headline(row) for name, row in rows.items() if isinstance(row, Mapping)}
        for key, rows in results.items()
        if key.startswith("by_") and isinstance(rows, Mapping)
    }
    return overall | groups
