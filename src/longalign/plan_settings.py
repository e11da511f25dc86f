"""The settings of a training loop as the planner wants them: one place that knows what follows from the machine."""

from __future__ import annotations

from longalign.config import LoopSettings, PlanSettings, TrainSettings

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
