"""Settings of verb `plan`, the same settings taken from a training run, and how that run would be executed.

One place knows what follows from the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from longalign.base.decides import EXECUTION
from longalign.config.base import Alias
from longalign.config.execution import (
    AdapterSettings,
    BatchingSettings,
    ExecutionSettings,
    FineTuningSettings,
    Parallel,
)
from longalign.config.mix import MixSettings, RowFiles
from longalign.config.train import LoopSettings
from longalign.core.hardware import Execution

CPU_MICROBATCH_TOKENS = 4096


def _degree(layout: Any) -> Any:
    """`sp4` -> 4, `auto` -> None."""
    return {"auto": None}.get(str(layout), str(layout).removeprefix("sp"))


def _parallel(sharding: Any) -> Any:
    return {"full": "fsdp2", "none": "ddp"}.get(sharding, sharding)


class PlanSettings(FineTuningSettings, MixSettings):
    """Verb `plan`: what a training run would do, before it runs. Takes the settings of training."""

    aliases: ClassVar[Mapping[str, Alias]] = {
        "epochs": Alias("num_train_epochs"),
        "layout": Alias("sequence_parallel", _degree),
        "sharding": Alias("parallel", _parallel),
    }

    lengths: str | None = Field(None, description=".npy of sequence lengths in tokens")
    targets: str | None = Field(None, description=".npy of target tokens per sequence; default: every token")
    data: RowFiles = Field(
        {}, description="row files, and how much of each as in `train`; or one token store folder of an earlier run"
    )
    tokenizer: str | None = Field(None, description="tokenizer for `data`; default: the rows' `length_tokens`")
    ranks: int = Field(1, gt=0, description="accelerators over all nodes")
    sequence_parallel: int | None = Field(
        None,
        gt=0,
        description="ranks that share one pack (Ulysses); default: `auto`, the shortest step of `balanced`",
        json_schema_extra=EXECUTION,
    )
    model_shape: str = Field(
        "7b", description="a named shape (tiny, 7b, qwen3-8b, ...), a model directory, a config.json or a hub id"
    )
    machine: str = Field("a100-80g", description="a100-80g (the paper's), h100-80g, h200 or cpu")

    @field_validator("sequence_parallel", mode="before")
    @classmethod
    def _read_auto(cls, value: Any) -> Any:
        return None if value == "auto" else value


def plan_settings(
    settings: LoopSettings,
    *,
    model: str,
    machine: str,
    ranks: int,
    parallel: str | None = None,
    data: tuple[str, ...] = (),
) -> PlanSettings:
    """The settings of `longalign plan` for this run on `ranks` ranks of `machine` (see core/hardware.py).

    parallel: how ranks share the work, where a stage has settled it; by default the settings', or what training would
    choose.
    """
    shared = PlanSettings.model_fields.keys() & type(settings).model_fields.keys()
    settled = {
        "data": data,
        "mix_by": "rows",
        "mix_total": None,
        "ranks": ranks,
        "model_shape": model,
        "machine": machine,
        "token_limit": microbatch_tokens(settings, on_gpu=machine != "cpu"),
        "parallel": parallel or settings.parallel,
    }
    return PlanSettings(**{**{name: getattr(settings, name) for name in shared}, **settled})


def step_arguments(settings: BatchingSettings) -> dict[str, Any]:
    """The arguments of `plan_steps` (core/batching.py) that batching settings give, for a plan and for a run alike."""
    return {
        "window": settings.window,
        "sequences_per_step": settings.sequences_per_step,
        "strategy": settings.strategy,
        "seed": settings.seed,
        "epochs": settings.num_train_epochs,
        "packs_per_step": settings.packs_per_step,
        "packing": settings.packing or "best_fit",
        "rows_per_microbatch": settings.rows_per_microbatch,
    }


def execution(settings: PlanSettings) -> Execution:
    """How the planned training is carried out on its machine, for the model of memory and time."""
    on_gpu = settings.machine != "cpu"
    checkpointing = settings.gradient_checkpointing
    settled = {
        "sharding": "none" if parallel_of(settings, ranks=settings.ranks, on_gpu=on_gpu) in ("none", "ddp") else "full",
        "half": settings.dtype == "bfloat16" and on_gpu,
        "gradient_checkpointing": on_gpu if checkpointing is None else checkpointing,
    }
    names = Execution.__dataclass_fields__.keys() & PlanSettings.model_fields.keys()
    return Execution(**{**{name: getattr(settings, name) for name in names}, **settled})


def parallel_of(settings: ExecutionSettings, *, ranks: int, on_gpu: bool) -> Parallel:
    """`settings.parallel`, or what suits the ranks: 4-bit weights stay whole, offloaded ones are sharded."""
    if settings.parallel is not None:
        return settings.parallel
    quantised = isinstance(settings, AdapterSettings) and settings.quantize is not None
    if settings.cpu_offload or (on_gpu and ranks > 1 and not quantised):
        return "fsdp2"
    return "ddp" if ranks > 1 else "none"


def microbatch_tokens(settings: BatchingSettings, *, on_gpu: bool) -> int:
    """Tokens of a microbatch. A GPU is busy with one window; a CPU has memory to spare and gains from fewer, larger
    calls until about 4k tokens.
    """
    if settings.token_limit is not None:
        return settings.token_limit
    return settings.window if on_gpu else max(settings.window, CPU_MICROBATCH_TOKENS)
