"""The cost of an evaluation before any model runs: number of prompts, their lengths, and calls to the judge."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longalign.config import TaskSettings
from longalign.eval.registry import tasks_of
from longalign.eval.task import JudgeCost


@dataclass(frozen=True)
class TaskPlan:
    """Questions and prompt tokens of one task, over all models."""

    questions: int
    prompt_tokens: int


@dataclass(frozen=True)
class EvalPlan:
    """All tasks over all models. `prompt_tokens_N`: tokens of the prompts of one model, by task."""

    models: int
    tasks: dict[str, TaskPlan]
    judge: dict[str, JudgeCost]
    notes: list[str]
    prompt_tokens_N: dict[str, NDArray[np.int64]]

    def as_dict(self) -> dict[str, Any]:
        """As a report holds it; the lengths of single prompts are left out."""
        tasks = {name: asdict(task) for name, task in self.tasks.items()}
        judge = {name: asdict(cost) for name, cost in self.judge.items()}
        return {"models": self.models, "parts": tasks, "judge": judge, "notes": self.notes}


def plan_eval(settings: TaskSettings, *, models: int, window: int) -> EvalPlan:
    """What the tasks that are set ask of `models` models with this window; notes say what is assumed or left out."""
    lengths: dict[str, NDArray[np.int64]] = {}
    judge: dict[str, JudgeCost] = {}
    notes: list[str] = []
    for task in tasks_of(settings):
        cost = task.cost(window)
        notes += cost.notes
        if cost.prompt_tokens_N is None:
            continue
        lengths[task.name] = cost.prompt_tokens_N
        if judged := task.judge_cost(len(cost.prompt_tokens_N) * models):
            judge[task.name] = judged
    tasks = {name: TaskPlan(len(found) * models, int(found.sum()) * models) for name, found in lengths.items()}
    return EvalPlan(models, tasks, judge, notes, lengths)
