"""Settings of verb `plan`, and the question a training run would ask it.

The settings of a training loop as the planner wants them: one place that knows what follows from the machine.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from longalign.config.base import Settings
from longalign.config.train import (
    LoopSettings,
    Overlong,
    Strategy,
    TrainSettings,
    Weighting,
    check_quantised,
    check_weighting,
)


class PlanSettings(Settings):
    """Verb `plan`: what a training run would do, before it runs."""

    lengths: str | None = Field(None, description=".npy of sequence lengths in tokens")
    targets: str | None = Field(None, description=".npy of target tokens per sequence; default: every token")
    data: tuple[str, ...] = Field((), description="row files, or one token store folder of an earlier run")
    tokenizer: str | None = Field(None, description="tokenizer for `data`; default: the rows' `length_tokens`")
    window: int = Field(65536, gt=1, description="maximum context in tokens")
    overlong: Overlong = Field("truncate_middle_of_document", description="what happens to rows above the window")
    ranks: int = Field(1, gt=0, description="accelerators over all nodes")
    sequences_per_step: int = Field(96, gt=0, description="sequences in one optimizer step over all ranks")
    strategy: Strategy = Field("balanced", description="how sequences become steps, ranks and microbatches")
    weighting: Weighting = Field("sequence", description="what counts once; the report shows all of them")
    token_limit: int | None = Field(
        None, gt=1, description="`balanced`: tokens of a microbatch on one rank; default: the window, or what fits"
    )
    packs_per_step: int | None = Field(None, gt=0, description="`packed`: default from sequences_per_step")
    packing: Literal["best_fit", "next_fit"] = Field("best_fit", description="`packed`: next_fit is the paper's")
    rows_per_microbatch: int = Field(1, gt=0, description="rows of a padded or sorted microbatch")
    epochs: int = Field(1, gt=0, description="times every sequence is trained on")
    layout: str = Field(
        "auto",
        pattern="^(auto|sp[1-9][0-9]*)$",
        description="ranks that share a microbatch: sp1, sp2, sp4, ... or `auto`, the shortest step of `balanced`",
    )
    model_shape: str = Field(
        "7b", description="a named shape (tiny, 7b, qwen3-8b, ...), a model directory, a config.json or a hub id"
    )
    machine: str = Field("a100-80g", description="a100-80g (the paper's), h100-80g, h200 or cpu")
    sharding: Literal["full", "none"] | None = Field(
        None, description="full: FSDP2 or ZeRO-3; none: whole copies (DDP); default: full, with `quantize` none"
    )
    dtype: Literal["float32", "bfloat16", "float64"] = Field("bfloat16", description="precision of compute")
    gradient_checkpointing: bool = Field(True, description="recompute activations in the backward pass")
    activation_offload: bool = Field(False, description="keep checkpointed activations in CPU memory")
    mlp_tile_tokens: int | None = Field(
        None, gt=0, description="tokens of a sequence that pass a layer's MLP at once; default: all of them"
    )
    cpu_offload: bool = Field(False, description="parameters and optimizer states in CPU memory")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="`muon` keeps one moment of matrices, not two")
    thinking: Literal["keep", "strip"] = Field("keep", description="thinking blocks in assistant turns")
    lora_rank: int | None = Field(None, gt=0, description="train adapters of this rank instead of all weights")
    quantize: Literal["4bit"] | None = Field(None, description="frozen weights under LoRA in 4 bits (QLoRA)")
    loss_chunk_tokens: int | None = Field(
        None, gt=0, description="targets whose logits are held at once; default: by device and vocabulary"
    )
    seed: int = Field(0, ge=0, description="of every random choice of the stage")

    @model_validator(mode="after")
    def _only_frozen_weights_are_quantised(self) -> Self:
        check_quantised(self.quantize, self.lora_rank)
        return self

    @model_validator(mode="after")
    def _quantised_weights_stay_whole(self) -> Self:
        if self.quantize and (self.sharding == "full" or self.cpu_offload):
            raise ValueError("quantize: 4-bit weights cannot be split over ranks; use sharding none, no cpu_offload")
        return self

    @model_validator(mode="after")
    def _only_split_weights_are_offloaded(self) -> Self:
        if self.cpu_offload and self.sharding == "none":
            raise ValueError("cpu_offload: sharding none cannot offload; use sharding full (also on one GPU)")
        return self

    @model_validator(mode="after")
    def _packs_must_be_fixed_to_weigh_by_them(self) -> Self:
        check_weighting(self.weighting, self.strategy)
        return self


CPU_MICROBATCH_TOKENS = 4096


def plan_settings(
    settings: LoopSettings,
    *,
    model: str,
    machine: str,
    ranks: int,
    parallel: str | None = None,
    data: tuple[str, ...] = (),
) -> PlanSettings:
    """What `longalign plan` would be asked about this run on `ranks` ranks of `machine` (see core/hardware.py).

    parallel: none, ddp, fsdp2 or deepspeed; by default the settings', or what training would choose.
    """
    on_gpu = machine != "cpu"
    quantize = settings.quantize if isinstance(settings, TrainSettings) else None
    sharded = settings.cpu_offload or (on_gpu and ranks > 1 and not quantize)
    how = parallel or settings.parallel or ("fsdp2" if sharded else "ddp")
    checkpointing = settings.gradient_checkpointing
    return PlanSettings(
        data=data,
        window=settings.window,
        ranks=ranks,
        sequences_per_step=settings.sequences_per_step,
        strategy=settings.strategy,
        weighting=settings.weighting,
        token_limit=microbatch_tokens(settings, on_gpu=on_gpu),
        rows_per_microbatch=settings.rows_per_microbatch,
        epochs=settings.num_train_epochs,
        layout=f"sp{settings.sequence_parallel}",
        model_shape=model,
        machine=machine,
        sharding="none" if how in ("none", "ddp") else "full",
        dtype=settings.dtype,
        gradient_checkpointing=on_gpu if checkpointing is None else checkpointing,
        activation_offload=settings.activation_offload,
        mlp_tile_tokens=settings.mlp_tile_tokens,
        cpu_offload=settings.cpu_offload,
        optimizer=settings.optimizer,
        lora_rank=settings.lora_rank if isinstance(settings, TrainSettings) else None,
        quantize=quantize,
        loss_chunk_tokens=settings.loss_chunk_tokens,
        seed=settings.seed,
    )


def microbatch_tokens(settings: LoopSettings, *, on_gpu: bool) -> int:
    """Tokens of a microbatch. A GPU is busy with one window; a CPU has memory to spare and gains from fewer, larger
    calls until about 4k tokens.
    """
    if settings.token_limit is not None:
        return settings.token_limit
    return settings.window if on_gpu else max(settings.window, CPU_MICROBATCH_TOKENS)
