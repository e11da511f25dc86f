"""When a training run measures held-out losses, saves, and reports progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from longalign.config import LoopSettings


class Moments(TrainerCallback):  # type: ignore[misc]
    """When to measure held-out losses, save, and report progress."""

    def __init__(
        self, settings: LoopSettings, on_step: Callable[[dict[str, Any]], None], begin: Callable[[], object]
    ) -> None:
        self.settings, self.on_step, self.begin = settings, on_step, begin

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.begin()  # not earlier: ZeRO-3 has the model now, and trackers have opened their files

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        last = state.global_step >= state.max_steps
        every = self.settings.eval_steps
        control.should_evaluate = last or (every is not None and state.global_step % every == 0)
        control.should_log = True  # a step's sums are read once, before the next step adds to them
        control.should_save = last or state.global_step % self.settings.save_steps == 0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "target_tokens" in logs:
            self.on_step(logs)
