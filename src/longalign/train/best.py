"""The best weights by a named figure, and when to stop because it no longer improves.

    checkpoints/best-<step>/      the weights that were best when that step was measured

The measurements in metrics.jsonl are the only memory: which step is best, and how long nothing has improved, follows
from them. Weights are kept as long as there is a checkpoint at which they were the best, so that a run that goes back
to it still finds them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from longalign.base.files import read_jsonl
from longalign.config import LoopSettings
from longalign.errors import ConfigError, RunError, nearest
from longalign.train import checkpoint
from longalign.train.parallel import ranks

PREFIX = "best-"


@dataclass(frozen=True)
class Standing:
    """The best measurement so far; `waited`: measurements since the last one that was an improvement."""

    step: int
    value: float
    waited: int


def standing(
    values: Sequence[tuple[int, float]], *, lower_is_better: bool = False, min_delta: float = 0.0
) -> Standing | None:
    """Of (step, value) in order of steps; the first of equals is the best. None of nothing.

    An improvement exceeds what the last one reached by more than `min_delta`.
    """
    found: Standing | None = None
    reached = 0.0
    sign = -1.0 if lower_is_better else 1.0
    for step, value in values:
        improved = found is None or sign * (value - reached) > min_delta
        reached = value if improved else reached
        waited = 0 if improved or found is None else found.waited + 1
        if found is None or sign * (value - found.value) > 0:
            found = Standing(step, value, waited)
        else:
            found = Standing(found.step, found.value, waited)
    return found


def figures(row: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures of a row of metrics.jsonl, by the names that `best_by` takes: `needle.accuracy`."""
    parts = {**row.get("tasks", {}), **({"heldout": row["heldout"]} if "heldout" in row else {})}
    return dict(_flat(parts, ""))


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float | None]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class BestWeights:
    """Keeps the best weights of a run in `checkpoints`. Every rank has one, and calls its methods alike."""

    def __init__(self, settings: LoopSettings, checkpoints: Path, metrics: Path) -> None:
        assert settings.best_by is not None
        self.by, self.early_stop = settings.best_by, settings.early_stop
        self.checkpoints, self.metrics = checkpoints, metrics
        self.values: dict[int, float] = {}

    def recall(self, step: int) -> None:
        """What was measured until `step`, where a run begins or resumes; weights of later steps are dropped."""
        rows = read_jsonl(self.metrics) if ranks.is_first() else []
        found = {row["step"]: value for row in rows if (value := figures(row).get(self.by)) is not None}
        self.values = ranks.broadcast({at: value for at, value in found.items() if 0 < at <= step})
        if ranks.is_first():
            for folder in self.checkpoints.glob(f"{PREFIX}*"):
                if _step(folder) > step:
                    shutil.rmtree(folder)

    def note(self, step: int, found: Mapping[str, float | None], model: nn.Module) -> None:
        """Take in what was measured at `step`, and keep the weights if they are the best. The first step measures the
        untrained model, which is never chosen; there a figure that does not exist is a `ConfigError`."""
        if self.by not in found:
            if step == 0 and any(name.split(".")[0] == self.by.split(".")[0] for name in found):
                raise ConfigError(f"best_by: there is no figure {self.by}{nearest(self.by, list(found))}")
            return
        value = ranks.broadcast(found[self.by])  # ranks must not differ by a rounding over which step is best
        if step == 0 or value is None:
            return
        self.values[step] = value
        self.keep(step, model)

    def keep(self, step: int, model: nn.Module) -> None:
        """Write the weights of `step` if they are the best so far and not there yet."""
        best = self.until(step)
        if best and best.step == step and not ranks.broadcast(self._folder(step).exists()):
            checkpoint.save_weights(self._folder(step), model)

    def until(self, step: int) -> Standing | None:
        """The standing after `step`."""
        values = sorted((at, value) for at, value in self.values.items() if at <= step)
        delta = self.early_stop.min_delta if self.early_stop else 0.0
        return standing(values, lower_is_better=self.by.startswith("heldout."), min_delta=delta)

    def ends(self, step: int) -> bool:
        """Whether training should end after `step`."""
        now = self.until(step)
        return self.early_stop is not None and now is not None and now.waited >= self.early_stop.patience

    def tidy(self, step: int) -> None:
        """Drop weights that are the best of no checkpoint and not of now."""
        if ranks.is_first():
            points = [checkpoint.step_of(folder) for folder in checkpoint.all_checkpoints(self.checkpoints)]
            kept = {best.step for point in (*points, step) if (best := self.until(point))}
            for folder in self.checkpoints.glob(f"{PREFIX}*"):
                if _step(folder) not in kept:
                    shutil.rmtree(folder)

    def restore(self, step: int, model: nn.Module) -> dict[str, Any]:
        """Give `model` the best weights until `step`; says which those are. Raises `RunError` if they are damaged."""
        best = self.until(step)
        if best is None:
            raise RunError(f"best_by: {self.by} was never measured, so no weights are the best; see {self.metrics}")
        folder = self._folder(best.step)
        if wrong := ranks.on_first_rank(lambda: checkpoint.damage(folder)):
            raise RunError(f"{folder}: the best weights are damaged ({wrong}); the last ones are in the checkpoints")
        checkpoint.load_weights(folder, model)
        return {"by": self.by, "step": best.step, "value": best.value, "measured": len(self.values)}

    def _folder(self, step: int) -> Path:
        return self.checkpoints / f"{PREFIX}{step}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix(PREFIX))
