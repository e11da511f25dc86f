"""What a run will do, before it spends anything: the report of `longalign plan` on the very sequences it will train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from longalign.config import LoopSettings, PlanSettings, TrainSettings
from longalign.plan import plan
from longalign.train import ranks
from longalign.train.parallel import parallel_mode, token_limit


def preview(settings: LoopSettings, source: str, tokens: Path, out: Path | None = None) -> dict[str, Any]:
    """The plan's report (`text` is for people) for the token store in `tokens`; files go to `out` if given.

    `source` is a model directory or hub id. Raises ConfigError when the model's shape cannot be read from its config.
    """
    on_gpu = torch.cuda.is_available()
    checkpointing = settings.gradient_checkpointing
    return plan(
        PlanSettings(
            data=(str(tokens),),
            window=settings.window,
            ranks=ranks.count(),
            sequences_per_step=settings.sequences_per_step,
            strategy=settings.strategy,
            weighting=settings.weighting,
            token_limit=token_limit(settings),
            rows_per_microbatch=settings.rows_per_microbatch,
            epochs=settings.num_train_epochs,
            layout=f"sp{settings.sequence_parallel}",
            model_shape=source,
            machine=_machine() if on_gpu else "cpu",
            sharding="none" if parallel_mode(settings) in ("none", "ddp") else "full",
            gradient_checkpointing=on_gpu if checkpointing is None else checkpointing,
            activation_offload=settings.activation_offload,
            cpu_offload=settings.cpu_offload,
            lora_rank=settings.lora_rank if isinstance(settings, TrainSettings) else None,
            loss_chunk_tokens=settings.loss_chunk_tokens,
            seed=settings.seed,
        ),
        out,
    )


def headline(report: dict[str, Any]) -> str:
    """The plan in one line."""
    return (
        f"plan: {report['steps']} steps of {report['sequences_per_step']['mean']:.0f} sequences, "
        f"{report['packs']} microbatches, {report['padding_fraction']:.1%} padding, "
        f"{report['idle_fraction']:.1%} idle, {report['speedup_over_padded']:.1f}x the speed of padded batches"
    )


def _machine() -> str:
    name = torch.cuda.get_device_name().lower()
    return "h200" if "h200" in name else "h100-80g" if "h100" in name else "a100-80g"
