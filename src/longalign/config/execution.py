"""What a step trains on and how it is executed: declared once, for `extend`, `train` and `plan`.

Settings that exclude each other are rejected here, so whatever can be planned can be trained, and vice versa.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from longalign.base.decides import EXECUTION
from longalign.config.base import NameIn, Settings
from longalign.core.rules import Packing
from longalign.core.strategies import STRATEGIES
from longalign.core.weighting import WEIGHTINGS

Strategy = Annotated[str, NameIn(STRATEGIES)]
Weighting = Annotated[str, NameIn(WEIGHTINGS)]
Overlong = Literal["truncate_middle_of_document", "truncate_right", "split", "drop"]
Parallel = Literal["none", "ddp", "fsdp2", "deepspeed"]
OF_PACKED = ("packing", "packs_per_step")
SCHEDULES_WITH = {
    "min_lr_ratio": ("cosine_with_min_lr", "warmup_stable_decay"),
    "decay_ratio": ("warmup_stable_decay",),
    "decay_type": ("warmup_stable_decay",),
}
"""Settings that only some schedules have."""


class OptimizerSettings(Settings):
    """Optimizer and schedule; the paper's values are the defaults (section 4.1)."""

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="`muon` = torch.optim.Muon for matrices with AdamW for the rest"
    )
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate (AdamW part)")
    muon_learning_rate: float = Field(0.02, gt=0, description="peak learning rate of Muon's matrices")
    lr_scheduler_type: Literal[
        "cosine", "linear", "constant", "constant_with_warmup", "cosine_with_min_lr", "warmup_stable_decay"
    ] = Field("cosine", description="schedule of transformers, by its name there")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of steps spent warming up")
    min_lr_ratio: float = Field(
        0.0,
        ge=0,
        le=1,
        description="`cosine_with_min_lr`, `warmup_stable_decay`: lowest learning rate, as a share of the peak",
    )
    decay_ratio: float = Field(0.1, gt=0, le=1, description="`warmup_stable_decay`: share of the steps that decay")
    decay_type: Literal["linear", "cosine", "1-sqrt"] = Field(
        "cosine", description="`warmup_stable_decay`: shape of the decay"
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's mean of gradients")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="decay of AdamW's mean of squared gradients")
    weight_decay: float = Field(0.0, ge=0, description="of matrices; none on norms, biases, embeddings")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping; 0 turns it off")

    @model_validator(mode="after")
    def _the_schedule_uses_what_is_set(self) -> Self:
        for name, users in SCHEDULES_WITH.items():
            if getattr(self, name) != type(self).model_fields[name].default and self.lr_scheduler_type not in users:
                raise ValueError(f"{name} needs lr_scheduler_type {' or '.join(users)}, not {self.lr_scheduler_type}")
        if self.lr_scheduler_type == "warmup_stable_decay" and self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError(
                f"warmup_ratio {self.warmup_ratio:g} and decay_ratio {self.decay_ratio:g} are more than all steps"
            )
        return self


class BatchingSettings(Settings):
    """Which sequences every step trains on, and what counts the same in the loss."""

    window: int = Field(65536, gt=1, description="maximum context in tokens")
    strategy: Strategy = Field(
        "balanced",
        description="how sequences become steps, ranks and microbatches; with `packing` or `packs_per_step`: packed",
    )
    weighting: Weighting = Field(
        "sequence",
        description="what counts the same: every sequence (Eq. 2), every token, or in between; plain_packing: Eq. 3",
    )
    sequences_per_step: int = Field(96, gt=0, description="sequences in one optimizer step over all ranks")
    packing: Packing | None = Field(
        None, description="`packed`: how packs are filled; next_fit is the paper's; default: best_fit"
    )
    packs_per_step: int | None = Field(
        None, gt=0, description="`packed`: packs of one optimizer step; default: what holds sequences_per_step"
    )
    token_limit: int | None = Field(
        None,
        gt=1,
        description="`balanced`: tokens of a microbatch on one rank; default: the window (on CPU at least 4096), "
        "in `longalign plan` less if memory requires it",
        json_schema_extra=EXECUTION,
    )
    rows_per_microbatch: int = Field(
        1, gt=0, description="rows in a `padded` or `sorted` microbatch", json_schema_extra=EXECUTION
    )
    num_train_epochs: int = Field(1, gt=0, description="times every sequence is trained on")
    seed: int = Field(0, ge=0, description="random seed of the stage")

    @model_validator(mode="before")
    @classmethod
    def _packing_means_packed(cls, values: Any) -> Any:
        """Unless another strategy is named, which is refused below."""
        if isinstance(values, dict) and any(values.get(name) is not None for name in OF_PACKED):
            return {"strategy": "packed"} | values
        return values


class ExecutionSettings(Settings):
    """How the computation is carried out: precision, memory, and how ranks share the work."""

    dtype: Literal["float32", "bfloat16", "float64"] = Field(
        "bfloat16", description="precision of compute; on CPU always float32, unless this is float64"
    )
    gradient_checkpointing: bool | None = Field(
        None, description="recompute activations in the backward pass; default: on a GPU", json_schema_extra=EXECUTION
    )
    activation_offload: bool = Field(
        False, description="keep checkpointed activations in CPU memory", json_schema_extra=EXECUTION
    )
    mlp_tile_tokens: int | None = Field(
        None,
        gt=0,
        description="tokens of a sequence that pass a layer's MLP at once; default: all of them",
        json_schema_extra=EXECUTION,
    )
    liger_kernels: bool = Field(
        False, description="Liger's fused kernels for norms, MLPs and RoPE (CUDA only)", json_schema_extra=EXECUTION
    )
    loss_chunk_tokens: int | None = Field(
        None,
        gt=0,
        description="targets whose logits are held at once; default: by device and vocabulary",
        json_schema_extra=EXECUTION,
    )
    parallel: Parallel | None = Field(
        None,
        description="default: none on one rank, fsdp2 on several GPUs or to offload, ddp on several CPU ranks "
        "and for weights in 4 bits",
        json_schema_extra=EXECUTION,
    )
    cpu_offload: bool = Field(
        False,
        description="parameters and optimizer states in CPU memory (fsdp2, also on one GPU; deepspeed)",
        json_schema_extra=EXECUTION,
    )


class StepSettings(OptimizerSettings, BatchingSettings, ExecutionSettings):
    """Settings that `extend`, `train` and `plan` share, with checks of combinations."""

    @model_validator(mode="after")
    def _packs_are_filled_by_packed_only(self) -> Self:
        fixed = STRATEGIES[self.strategy].microbatches == "fixed"
        if WEIGHTINGS[self.weighting].by_pack and not fixed:
            raise ValueError(
                f"weighting {self.weighting} needs strategy packed: the packs of {self.strategy!r} depend on the ranks"
            )
        for name in OF_PACKED:
            if getattr(self, name) is not None and not fixed:
                raise ValueError(f"{name} needs strategy packed: {self.strategy!r} fills no packs; leave it out")
        return self

    @model_validator(mode="after")
    def _only_checkpointed_activations_are_offloaded(self) -> Self:
        if self.activation_offload and self.gradient_checkpointing is False:
            raise ValueError("activation_offload keeps what gradient_checkpointing saves, which is off; turn it on")
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


class AdapterSettings(StepSettings):
    """Adapters (LoRA) beside frozen weights."""

    lora_rank: int | None = Field(None, gt=0, description="train adapters of this rank instead of all weights")
    lora_alpha: float = Field(32.0, gt=0, description="adapters are scaled by this over their rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    lora_target_modules: str | tuple[str, ...] = Field("all-linear", description="layers that get adapters")
    lora_modules_to_save: tuple[str, ...] = Field(
        (), description="modules that train whole beside adapters, as in LongLoRA: `embed_tokens`, `norm`, `lm_head`"
    )
    lora_use_rslora: bool = Field(False, description="scale adapters by alpha over the square root of their rank")
    lora_use_dora: bool = Field(False, description="DoRA: adapters turn weights, and their lengths train by themselves")
    lora_adapter: str | None = Field(
        None, description="folder of an adapter (PEFT) to train on; all but `lora_dropout` is as it says"
    )
    quantize: Literal["4bit"] | None = Field(
        None, description="keep the frozen weights under LoRA in 4 bits (QLoRA, bitsandbytes NF4)"
    )

    @model_validator(mode="after")
    def _adapters_have_a_rank(self) -> Self:
        """What is planned and trained follows from the rank, also where an adapter says the rest."""
        for name in ("lora_adapter", "lora_modules_to_save", "lora_use_rslora", "lora_use_dora"):
            if getattr(self, name) and self.lora_rank is None:
                rank = "its rank" if name == "lora_adapter" else "e.g. 16"
                raise ValueError(f"{name}: nothing gets adapters without lora_rank; add it ({rank})")
        return self

    @model_validator(mode="after")
    def _head_has_no_adapters(self) -> Self:
        """Its loss is computed without all logits."""
        if self.lora_rank is not None and "lm_head" in (self.lora_target_modules or ()):
            raise ValueError(
                "lora_target_modules: the head cannot have adapters; leave lm_head out, or let it train whole: "
                "--lora_modules_to_save lm_head"
            )
        return self

    @model_validator(mode="after")
    def _check_quantised(self) -> Self:
        """Only frozen weights are quantised; FSDP2 splits them as they are stored, in the memory of the accelerator."""
        if self.quantize and self.lora_rank is None:
            raise ValueError("quantize: 4-bit weights cannot be trained; add lora_rank to train adapters beside them")
        if self.quantize and self.parallel == "deepspeed":
            raise ValueError("quantize: deepspeed cannot split 4-bit weights over ranks; use ddp or fsdp2")
        if self.quantize and self.cpu_offload:
            raise ValueError("quantize: cpu_offload does not keep 4-bit weights; leave it out, fsdp2 splits them")
        return self


class RowSettings(Settings):
    """How rows of messages become sequences with targets."""

    overlong: Overlong = Field("truncate_middle_of_document", description="what happens to rows above the window")
    train_on: Literal["all", "last"] = Field("all", description="assistant turns that are targets")
    chat_template: str | None = Field(
        None, description="Jinja file that renders conversations; default: the tokenizer's own (base models have none)"
    )
    thinking: Literal["keep", "strip"] = Field("keep", description="thinking blocks in assistant turns")


class FineTuningSettings(AdapterSettings, RowSettings):
    """Further settings that `train` and `plan` share."""
