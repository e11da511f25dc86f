"""Settings of stages `extend` and `train`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from longalign.base.decides import EXECUTION, REPORTING
from longalign.config.base import Settings
from longalign.config.eval import TaskSettings
from longalign.config.execution import AdapterSettings, FineTuningSettings, StepSettings, Weighting
from longalign.config.mix import MixSettings, RowFiles


class RopeSettings(Settings):
    """How position encoding is stretched before the model is built (paper section 4.1: base x 200)."""

    method: Literal["base", "auto", "ntk", "linear", "yarn", "llama3"] = Field(
        "base", description="`base` multiplies the base frequency; `auto` derives the base from the window"
    )
    base_factor: float = Field(200.0, gt=0, description="factor on the RoPE base for `base` (paper: 200)")
    factor: float | None = Field(
        None, gt=0, description="window ratio for ntk, linear, yarn and llama3; default: window / trained window"
    )
    trained_window: int | None = Field(
        None, gt=0, description="tokens the model was trained on; default: max_position_embeddings of its config"
    )


class EarlyStopSettings(Settings):
    """When training ends before its plan does."""

    patience: int = Field(3, gt=0, description="measurements in a row without an improvement after which it ends")
    min_delta: float = Field(0.0, ge=0, description="what `best_by` must gain to count as an improvement")


class LoopSettings(StepSettings):
    """What every training loop shares: batching, optimizer, execution, checkpoints."""

    token_weighting_steps: int = Field(
        0, ge=0, description="schedule: this many first steps weigh by token, then by `weighting`"
    )
    max_steps: int | None = Field(None, gt=0, description="stop after this many optimizer steps")
    sequence_parallel: int = Field(
        1, gt=0, description="ranks that share one pack (Ulysses)", json_schema_extra=EXECUTION
    )
    save_steps: int = Field(100, gt=0, description="optimizer steps between checkpoints", json_schema_extra=EXECUTION)
    save_total_limit: int = Field(2, gt=0, description="good checkpoints kept", json_schema_extra=EXECUTION)
    eval_steps: int | None = Field(
        None,
        gt=0,
        description="steps between held-out losses; default: only at the end",
        json_schema_extra=REPORTING,
    )
    eval_tasks: TaskSettings | None = Field(
        None,
        description="evaluations on small samples while training, as in `eval`: a curve beside the loss",
        json_schema_extra=REPORTING,
    )
    eval_task_steps: int | None = Field(
        None,
        gt=0,
        description="steps between `eval_tasks`; default: only before the first step and after the last",
        json_schema_extra=REPORTING,
    )
    best_by: str | None = Field(
        None,
        description="`final` gets the weights that were best by this figure: `needle.accuracy` (higher is better) or "
        "`heldout.all.loss` (lower is better); default: the last weights",
    )
    early_stop: EarlyStopSettings | None = Field(None, description="end when `best_by` no longer improves")
    export_dtype: Literal["float32", "bfloat16"] | None = Field(
        None,
        description="dtype of the weights in `final`; default: that of the model it was made from",
        json_schema_extra=EXECUTION,
    )
    report_to: tuple[str, ...] = Field(
        (), description="Trainer trackers: wandb, tensorboard, mlflow", json_schema_extra=REPORTING
    )

    @property
    def also_decide(self) -> tuple[str, ...]:
        """Settings that are reporting unless weights are chosen by what they report."""
        return ("eval_tasks", "eval_task_steps", "eval_steps") if self.best_by else ()

    @model_validator(mode="after")
    def _what_is_measured_can_be(self) -> Self:
        if self.eval_tasks is None:
            if self.eval_task_steps:
                raise ValueError("eval_task_steps: there are no eval_tasks; name some, for example {needle: {...}}")
        elif self.parallel == "deepspeed":
            raise ValueError("eval_tasks: deepspeed cannot generate while it trains; use fsdp2")
        elif self.eval_tasks.needle and self.eval_tasks.needle.forced_tokens:
            raise ValueError("eval_tasks.needle.forced_tokens: not while training; leave it to `eval`")
        return self

    @model_validator(mode="after")
    def _best_is_measured(self) -> Self:
        if self.best_by is None:
            if self.early_stop:
                raise ValueError("early_stop needs best_by, the figure that must improve")
            return self
        if self.parallel == "deepspeed":
            raise ValueError("best_by: deepspeed cannot take earlier weights up again; use fsdp2")
        task = self.best_by.split(".")[0]
        every = "eval_steps" if task == "heldout" else "eval_task_steps"
        names = [*(self.eval_tasks.tasks if self.eval_tasks else ())]
        names += [name for name, value in self.eval_tasks or () if isinstance(value, Settings)]
        if task != "heldout" and task not in names:
            raise ValueError(f"best_by: {self.best_by}: eval_tasks has no {task}, and it is no figure of `heldout`")
        if getattr(self, every) is None:
            raise ValueError(f"best_by: {self.best_by} is measured at the end only; set {every}")
        return self


class ExtendSettings(LoopSettings, MixSettings, AdapterSettings):
    """Stage `extend`: stretch RoPE, continue pretraining on long text (paper section 4.1)."""

    model: str = Field("builtin:tiny-base", description="model directory, hub id or `builtin:tiny-base`")
    text: tuple[str, ...] = Field((), description="files or folders of documents; `builtin:` names a bundled corpus")
    data: RowFiles = Field(
        {}, description="row files mixed into the text (answers are targets), and how much of each, as in `train`"
    )
    windows: dict[int, float] = Field(
        {},
        description="share of the text's tokens by the window they are cut at, such as {4096: 0.3, 65536: 0.7}; the "
        "largest is `window`; default: all at `window`",
    )
    rope: RopeSettings = Field(RopeSettings(), description="how the position encoding is stretched")
    init: Literal["weights", "random"] = Field("weights", description="`random` builds the model from its config")
    weighting: Weighting = Field("token", description="continual pretraining counts tokens")

    @model_validator(mode="after")
    def _adapters_need_weights(self) -> Self:
        if self.init == "random" and self.lora_rank is not None:
            raise ValueError("init: random weights stay random under lora_rank, which trains adapters only; drop one")
        return self

    @model_validator(mode="after")
    def _shares_of_windows_are_whole(self) -> Self:
        if not self.windows:
            return self
        shown = ", ".join(f"{window}: {share:g}" for window, share in self.windows.items())
        if min(self.windows.values()) <= 0 or abs(sum(self.windows.values()) - 1) > 1e-6:
            raise ValueError(f"windows: {{{shown}}}: the shares must be above 0 and together 1")
        if max(self.windows) != self.window or min(self.windows) < 2:
            raise ValueError(
                f"windows: {{{shown}}}: the largest must be `window` ({self.window}), the smallest 2 or more tokens"
            )
        return self


class TrainSettings(LoopSettings, FineTuningSettings, MixSettings):
    """Stage `train`: supervised fine-tuning with exact per-sequence weighting (paper section 3.2)."""

    model: str = Field("builtin:tiny-base", description="model directory or hub id")
    data: RowFiles = Field(
        {},
        description="row files (`messages`, ShareGPT, LongAlpaca), and how much of each: a number of rows, null for "
        "all, or `rows`, `weight`, `epochs`",
    )
    eval_data: tuple[str, ...] = Field((), description="held-out rows for learning curves (Figure 6)")
    num_train_epochs: int = Field(2, gt=0, description="times every sequence is trained on")

    @model_validator(mode="after")
    def _held_out_rows_are_given(self) -> Self:
        if self.best_by and self.best_by.startswith("heldout.") and not self.eval_data:
            raise ValueError(f"best_by: {self.best_by} needs held-out rows; give eval_data")
        return self
