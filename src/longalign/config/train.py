"""Settings of the training loop, of stages `extend` and `train`, and of the verb `plan`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from longalign.config.base import Settings

Strategy = Literal["padded", "sorted", "packed", "balanced"]
Weighting = Literal["token", "sequence", "sqrt", "plain_packing"]
Overlong = Literal["truncate_middle_of_document", "truncate_right", "split", "drop"]


def check_quantised(quantize: str | None, lora_rank: int | None) -> None:
    if quantize and lora_rank is None:
        raise ValueError("quantize: 4-bit weights cannot be trained; add lora_rank to train adapters beside them")


def check_weighting(weighting: Weighting, strategy: Strategy) -> None:
    if weighting == "plain_packing" and strategy != "packed":
        raise ValueError(
            f"weighting plain_packing needs strategy packed: the packs of {strategy!r} depend on the ranks"
        )


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


class OptimizerSettings(Settings):
    """Optimizer and schedule; the paper's values are the defaults (section 4.1)."""

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="`muon` = torch.optim.Muon for matrices with AdamW for the rest"
    )
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate (AdamW part)")
    muon_learning_rate: float = Field(0.02, gt=0, description="peak learning rate of Muon's matrices")
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine", description="schedule after warm-up"
    )
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of steps spent warming up")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's mean of gradients")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="decay of AdamW's mean of squared gradients")
    weight_decay: float = Field(0.0, ge=0, description="of matrices; norms, biases and embeddings have none")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping; 0 turns it off")


class LoopSettings(OptimizerSettings):
    """What every training loop shares: batching, precision, checkpoints."""

    window: int = Field(65536, gt=1, description="maximum context in tokens")
    strategy: Strategy = Field("balanced", description="how sequences become steps, ranks and microbatches")
    weighting: Weighting = Field(
        "sequence",
        description="what counts once: a sequence (Eq. 2), a token, or between; plain_packing is Eq. 3, to compare",
    )
    token_weighting_steps: int = Field(
        0, ge=0, description="schedule: this many first steps weigh by token, then by `weighting`"
    )
    sequences_per_step: int = Field(96, gt=0, description="sequences in one optimizer step over all ranks")
    token_limit: int | None = Field(
        None, gt=1, description="tokens of a `balanced` microbatch; default: the window, on CPU at least 4096"
    )
    rows_per_microbatch: int = Field(1, gt=0, description="rows a padded or sorted microbatch holds")
    num_train_epochs: int = Field(1, gt=0, description="times every sequence is trained on")
    max_steps: int | None = Field(None, gt=0, description="stop after this many optimizer steps")
    seed: int = Field(0, ge=0, description="of every random choice of the stage")
    dtype: Literal["float32", "bfloat16", "float64"] = Field(
        "bfloat16", description="precision of compute; on CPU float32 is used unless float64 is asked for"
    )
    gradient_checkpointing: bool | None = Field(
        None, description="recompute activations in the backward pass; default: on a GPU"
    )
    activation_offload: bool = Field(False, description="keep checkpointed activations in CPU memory")
    mlp_tile_tokens: int | None = Field(
        None, gt=0, description="tokens of a sequence that pass a layer's MLP at once; default: all of them"
    )
    liger_kernels: bool = Field(False, description="Liger's fused kernels for norms, MLPs and RoPE (CUDA only)")
    loss_chunk_tokens: int | None = Field(
        None, gt=0, description="targets whose logits are held at once; default: by device and vocabulary"
    )
    parallel: Literal["none", "ddp", "fsdp2", "deepspeed"] | None = Field(
        None, description="default: none on one rank, fsdp2 on several GPUs or to offload, ddp on several CPU ranks"
    )
    sequence_parallel: int = Field(1, gt=0, description="ranks that share one pack (Ulysses)")
    cpu_offload: bool = Field(
        False, description="parameters and optimizer states in CPU memory (fsdp2, also on one GPU; deepspeed)"
    )
    save_steps: int = Field(100, gt=0, description="optimizer steps between checkpoints")
    save_total_limit: int = Field(2, gt=0, description="good checkpoints kept")
    eval_steps: int | None = Field(None, gt=0, description="steps between held-out losses; default: only at the end")
    report_to: tuple[str, ...] = Field((), description="Trainer trackers: wandb, tensorboard, mlflow")

    @model_validator(mode="after")
    def _only_checkpointed_activations_are_offloaded(self) -> Self:
        if self.activation_offload and self.gradient_checkpointing is False:
            raise ValueError("activation_offload keeps what gradient_checkpointing saves, which is off; turn it on")
        return self

    @model_validator(mode="after")
    def _packs_must_be_fixed_to_weigh_by_them(self) -> Self:
        check_weighting(self.weighting, self.strategy)
        return self

    @model_validator(mode="after")
    def _only_split_weights_are_offloaded(self) -> Self:
        if self.cpu_offload and self.parallel in ("none", "ddp"):
            raise ValueError(
                f"cpu_offload: parallel {self.parallel} cannot offload; use fsdp2 (also on one GPU) or deepspeed"
            )
        return self

    @model_validator(mode="after")
    def _check_zero3_conflicts(self) -> Self:
        if self.parallel == "deepspeed" and self.mlp_tile_tokens:
            raise ValueError(
                "mlp_tile_tokens: ZeRO-3 gathers weights at each call, and ranks have different numbers of tiles; "
                "use fsdp2"
            )
        if self.parallel == "deepspeed" and self.optimizer == "muon":
            raise ValueError("optimizer: muon needs whole gradients, which ZeRO-3 does not have; use adamw, or fsdp2")
        return self


class ExtendSettings(LoopSettings):
    """Stage `extend`: stretch RoPE, continue pretraining on long text (paper section 4.1)."""

    model: str = Field("builtin:tiny-base", description="model directory, hub id or `builtin:tiny-base`")
    text: tuple[str, ...] = Field((), description="files or folders of documents; `builtin:` names a bundled corpus")
    data: dict[str, int | None] = Field(
        {}, description="row files mixed into the text (answers are targets), and how many rows to draw; null = all"
    )
    rope: RopeSettings = Field(RopeSettings(), description="how the position encoding is stretched")
    init: Literal["weights", "random"] = Field("weights", description="`random` builds the model from its config")
    weighting: Weighting = Field("token", description="continual pretraining counts tokens")
    num_train_epochs: int = Field(1, gt=0, description="times every sequence is trained on")


class TrainSettings(LoopSettings):
    """Stage `train`: supervised fine-tuning with exact per-sequence weighting (paper section 3.2)."""

    model: str = Field("builtin:tiny-base", description="model directory or hub id")
    data: dict[str, int | None] = Field(
        {}, description="row files (`messages`, ShareGPT, LongAlpaca) and how many rows to draw; null = all"
    )
    eval_data: tuple[str, ...] = Field((), description="held-out rows for learning curves (Figure 6)")
    num_train_epochs: int = Field(2, gt=0, description="times every sequence is trained on")
    overlong: Overlong = Field("truncate_middle_of_document", description="what happens to rows above the window")
    train_on: Literal["all", "last"] = Field("all", description="assistant turns that are targets")
    chat_template: str | None = Field(
        None, description="Jinja file that renders conversations; default: the tokenizer's own (base models have none)"
    )
    thinking: Literal["keep", "strip"] = Field("keep", description="thinking blocks in assistant turns")
    lora_rank: int | None = Field(None, gt=0, description="train adapters of this rank instead of all weights")
    lora_alpha: float = Field(32.0, gt=0, description="adapters are scaled by this over their rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    lora_target_modules: str | tuple[str, ...] = Field("all-linear", description="layers that get adapters")
    quantize: Literal["4bit"] | None = Field(
        None, description="keep the frozen weights under LoRA in 4 bits (QLoRA, bitsandbytes NF4)"
    )

    @model_validator(mode="after")
    def _only_frozen_weights_are_quantised(self) -> Self:
        check_quantised(self.quantize, self.lora_rank)
        return self

    @model_validator(mode="after")
    def _quantised_weights_stay_whole(self) -> Self:
        how = "fsdp2" if self.parallel is None and self.cpu_offload else self.parallel
        if self.quantize and how in ("fsdp2", "deepspeed"):
            raise ValueError(f"quantize: {how} cannot split 4-bit weights over ranks; use ddp, without cpu_offload")
        return self
