"""Settings of stages `extend` and `train`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from longalign.base.decides import EXECUTION, REPORTING
from longalign.config.base import Settings
from longalign.config.execution import AdapterSettings, FineTuningSettings, StepSettings, Weighting


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
    export_dtype: Literal["float32", "bfloat16"] | None = Field(
        None,
        description="dtype of the weights in `final`; default: that of the model it was made from",
        json_schema_extra=EXECUTION,
    )
    report_to: tuple[str, ...] = Field(
        (), description="Trainer trackers: wandb, tensorboard, mlflow", json_schema_extra=REPORTING
    )


class ExtendSettings(LoopSettings, AdapterSettings):
    """Stage `extend`: stretch RoPE, continue pretraining on long text (paper section 4.1)."""

    model: str = Field("builtin:tiny-base", description="model directory, hub id or `builtin:tiny-base`")
    text: tuple[str, ...] = Field((), description="files or folders of documents; `builtin:` names a bundled corpus")
    data: dict[str, int | None] = Field(
        {}, description="row files mixed into the text (answers are targets), and how many rows to draw; null = all"
    )
    rope: RopeSettings = Field(RopeSettings(), description="how the position encoding is stretched")
    init: Literal["weights", "random"] = Field("weights", description="`random` builds the model from its config")
    weighting: Weighting = Field("token", description="continual pretraining counts tokens")

    @model_validator(mode="after")
    def _adapters_need_weights(self) -> Self:
        if self.init == "random" and self.lora_rank is not None:
            raise ValueError("init: random weights stay random under lora_rank, which trains adapters only; drop one")
        return self


class TrainSettings(LoopSettings, FineTuningSettings):
    """Stage `train`: supervised fine-tuning with exact per-sequence weighting (paper section 3.2)."""

    model: str = Field("builtin:tiny-base", description="model directory or hub id")
    data: dict[str, int | None] = Field(
        {}, description="row files (`messages`, ShareGPT, LongAlpaca) and how many rows to draw; null = all"
    )
    eval_data: tuple[str, ...] = Field((), description="held-out rows for learning curves (Figure 6)")
    num_train_epochs: int = Field(2, gt=0, description="times every sequence is trained on")
