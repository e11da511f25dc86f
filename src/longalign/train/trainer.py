"""The training loop: transformers' Trainer around our plan, batches, loss, checkpoints and metrics.

Trainer keeps what people come for: accelerate (DDP, FSDP2, DeepSpeed), PEFT, trackers, callbacks. Four of its
parts are replaced:

- data: the loader yields one *step* at a time, a list of this rank's microbatches. The plan decides accumulation, and
  `gradient_accumulation_steps` is 1;
- loss: weights carry every denominator (`core/weighting.py`), so nothing is divided here;
- checkpoints: `train/checkpoint.py`; a resumed run starts at the plan's step, without replaying the loader;
- metrics: `train/metrics.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainingArguments

from longalign.base.files import append_jsonl, read_jsonl
from longalign.base.progress import say
from longalign.config import LoopSettings
from longalign.errors import RunError
from longalign.eval.results import headline
from longalign.train import checkpoint
from longalign.train.best import BestWeights, figures
from longalign.train.collate import Microbatch, StepBatch, StepLoader
from longalign.train.heldout import HeldOut
from longalign.train.metrics import NamesOf, NllSums, StepMeter, forget_after
from longalign.train.moments import Moments
from longalign.train.optimizer import build_optimizer, build_schedule
from longalign.train.parallel import ranks
from longalign.train.parallel.fsdp2 import is_sharded
from longalign.train.parallel.placement import Placement
from longalign.train.parallel.ulysses import model_inputs
from longalign.train.task_curve import TaskCurve

logging.getLogger("transformers.trainer").setLevel(logging.ERROR)


class _EndedError(Exception):
    """Training has ended before the first step of this attempt."""


class PlanTrainer(Trainer):  # type: ignore[misc]
    """Runs a `StepPlan`. `heldout` sets are measured at the start, every `eval_steps` and at the end."""

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        settings: LoopSettings,
        placement: Placement,
        loader: StepLoader,
        meter: StepMeter,
        checkpoints: Path,
        names_of: NamesOf,
        heldout: HeldOut | None = None,
        curve: TaskCurve | None = None,
        on_step: Callable[[dict[str, Any]], None] = lambda row: None,
        before: Callable[[nn.Module], None] = lambda model: None,
    ) -> None:
        self.sharded = is_sharded(model)
        self.optimizer: torch.optim.Optimizer | None = None
        self.lr_scheduler: Any = None
        self.control: Any = None
        super().__init__(model=model, args=args, callbacks=[Moments(settings, on_step, self.begin)])
        self.remove_callback(PrinterCallback)
        self.loss_is_scaled_for_ga = True
        self.settings, self.loader, self.meter, self.heldout = settings, loader, meter, heldout
        self.checkpoints, self.names_of, self.curve = checkpoints, names_of, curve
        self.best = BestWeights(settings, checkpoints, meter.path) if settings.best_by else None
        self.asked, self.saved_step = set[int](), 0
        self.placement = placement
        self.before = before
        self.sums = NllSums(meter.groups, placement.part)
        self.current: StepBatch | None = None
        self.last_row: dict[str, Any] = {}

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.sharded:  # accelerate would wrap it in DDP once more
            self.accelerator.prepare_model = lambda model, **kwargs: model

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        if not self.sharded:
            super()._move_model_to_device(model, device)

    # --- data ---------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> Any:
        return self.loader

    def num_examples(self, dataloader: Any) -> int:
        return len(self.loader)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], None]:
        batch = next(epoch_iterator, None)
        return ([] if batch is None else [batch]), None

    # --- one step -----------------------------------------------------------------------------------------------

    def training_step(self, model: nn.Module, inputs: StepBatch, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward over this rank's microbatches; gradients are exchanged at the last one only."""
        model.train()
        self.current = inputs
        total = torch.zeros((), device=self.args.device)
        for number, microbatch in enumerate(inputs.microbatches):
            last = number == len(inputs.microbatches) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                with self.precision():
                    output = model(**self.model_inputs(microbatch))
                self.accelerator.backward(output.loss)
            self.sums.add(microbatch, output.nll, output.loss)
            total += output.loss.detach().float()
        self.sums.check(inputs.step.index + 1, self.names_of)
        return total

    def model_inputs(self, microbatch: Microbatch) -> dict[str, Any]:
        """Keyword arguments of the model for one microbatch, on its device."""
        return model_inputs(microbatch, self.args.device, self.placement.group)

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast, where weights are float32 in the forward pass; FSDP2 and DeepSpeed cast them by themselves."""
        if self.sharded or self.is_deepspeed_enabled:
            return contextlib.nullcontext()
        return self.placement.autocast()

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # `rank_flops` of train/metrics.py counts them, from the plan

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = build_optimizer(self.model if model is None else model, self.settings)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        if self.lr_scheduler is None:
            assert self.optimizer is not None
            self.lr_scheduler = build_schedule(self.optimizer, self.settings, num_training_steps)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    @property
    def bare_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer without accelerate's wrapper."""
        return cast(torch.optim.Optimizer, getattr(self.optimizer, "optimizer", self.optimizer))

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        value = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        if value != value or value in (float("inf"), float("-inf")):
            step = self.current.step.index + 1 if self.current else 0
            raise RunError(
                f"step {step}: the gradient norm is {value} though the loss is finite; the last checkpoint is "
                "untouched: lower the learning rate, or use dtype float32"
            )
        return value

    # --- metrics ------------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "grad_norm" in logs and self.current is not None:
            sums = self.sums.take()
            self.last_row = self.meter.row(
                self.current.step, sums, grad_norm=logs["grad_norm"], learning_rate=logs["learning_rate"]
            )
            logs = {k: v for k, v in self.last_row.items() if isinstance(v, int | float) and k != "step"}
            for kind in ("length", "source"):
                logs |= {f"loss_{kind}/{k}": v for k, v in self.last_row[f"loss_by_{kind}"].items()}
        super().log(logs, start_time)

    def begin(self) -> None:
        """Measurements before the first step; their time and that of building do not count as training time.

        A run that resumes takes up the tasks of its checkpoint where a kill has cut them short.
        """
        step = self.state.global_step
        rows = read_jsonl(self.meter.path) if self.curve and ranks.is_first() else []
        self.asked = ranks.broadcast({row["step"] for row in rows if "tasks" in row})
        if self.best:
            self.best.recall(step)
        if step == 0:
            self.before(self.model)
            self.evaluate()
        elif self.best:
            self.best.keep(step, self.model)
        self.ask_tasks()
        self.meter.started_s = time.monotonic()
        if self.control.should_training_stop:
            raise _EndedError

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Held-out losses: a row of metrics.jsonl with `heldout` in it, and Trainer's trackers."""
        if self.heldout is None:
            return {}
        with self.meter.paused():
            with self.precision():
                found = self.heldout.measure(self.model, self.model_inputs, self.placement.part)
            if ranks.is_first():
                append_jsonl(self.meter.path, {"step": self.state.global_step, "heldout": found})
            flat = {f"heldout_{kind}/{name}": v for kind in found for name, v in found[kind].items()}
            self.log(dict(flat))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, flat)
            self._measured({"heldout": found})
        return flat

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self.ask_tasks()  # after the checkpoint: tasks may take long
        if self.control.should_training_stop and self.saved_step != self.state.global_step:  # it ended early
            self._save_checkpoint(self.model, None)

    def ask_tasks(self) -> None:
        """The tasks of the curve, if they are due and have not been asked at this step: a row of metrics.jsonl."""
        step = self.state.global_step
        if self.curve is None or step in self.asked or not self.curve.due(step, self.state.max_steps):
            return
        self.asked.add(step)
        with self.meter.paused():
            start_s = time.monotonic()
            how = {"together": self.sharded, "precision": self.precision, "device": self.args.device}
            found = {"tasks": self.curve.measure(self.model, step, **how)}
            self._measured(found)  # its weights first: who finds the row relies on them
            if ranks.is_first():
                append_jsonl(self.meter.path, {"step": step, **found, "eval_s": round(time.monotonic() - start_s, 3)})
                say(f"step {step}: " + ", ".join(f"{k} {headline(v)}" for k, v in found["tasks"].items()))
            flat = {f"eval_{name.replace('.', '/')}": v for name, v in figures(found).items() if v is not None}
            self.log(flat)

    def _measured(self, row: dict[str, Any]) -> None:
        """Whether these weights are the best, and whether training ends."""
        if self.best:
            self.best.note(self.state.global_step, figures(row), self.model)
            if self.best.ends(self.state.global_step):
                self.control.should_training_stop = True

    # --- checkpoints --------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.state.log_history = []  # metrics.jsonl has it
        self.saved_step = self.state.global_step
        with self.meter.paused():
            checkpoint.save(
                self.checkpoints,
                self.state.global_step,
                self.model,
                self.bare_optimizer,
                {
                    "scheduler.json": self.lr_scheduler.state_dict(),
                    "trainer_state.json": dataclasses.asdict(self.state),
                },
                keep=self.settings.save_total_limit,
            )
            if self.best:
                self.best.tidy(self.state.global_step)

    def resume(self, folder: Path) -> None:
        """Train from a checkpoint; metrics of steps after it are measured again."""
        step = checkpoint.step_of(folder)
        if ranks.is_first():
            forget_after(self.meter.path, step)
            if self.curve:
                self.curve.forget_after(step)
        checkpoint.load_weights(folder, self.model)
        if self.best:
            self.best.recall(step)
            if self.best.ends(step):  # killed between its end and the export
                self.state.global_step = step
                return
        with contextlib.suppress(_EndedError):
            self.train(resume_from_checkpoint=str(folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Done before training: DDP and ZeRO-3 spread the weights that they find."""

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)  # DeepSpeed would look for pickles
        if resume_from_checkpoint is not None:
            load_position(Path(resume_from_checkpoint), self)
        return prepared

    def _load_rng_state(self, checkpoint_folder: str | None) -> None:
        if checkpoint_folder is not None:
            checkpoint.load_generators(Path(checkpoint_folder))


def load_position(folder: Path, trainer: PlanTrainer) -> None:
    """Optimizer and schedule of a checkpoint."""
    checkpoint.load_optimizer(folder, trainer.model, trainer.bare_optimizer)
    trainer.lr_scheduler.load_state_dict(checkpoint.read_json(folder, "scheduler.json"))
