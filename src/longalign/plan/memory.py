"""A rank's memory under a plan, and which settings would make a longer window fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longalign.core.hardware import Execution, Machine
from longalign.core.memory import largest_microbatch, rank_memory
from longalign.core.model_shape import ModelShape
from longalign.core.step_plan import StepPlan
from longalign.core.timing import DEGREES, layout_name, pack_tokens
from longalign.plan.figures import LargestWindow, MemoryNeed


def memory_need(step_plan: StepPlan, shape: ModelShape, machine: Machine, execution: Execution) -> MemoryNeed:
    """Bytes of a rank in the plan's largest microbatch, and the largest windows with these and with other settings."""
    ranks = step_plan.ranks
    tokens = -(-int(pack_tokens(step_plan).max()) // step_plan.rules.sequence_parallel)
    need = rank_memory(shape, execution, ranks=ranks, tokens=tokens)
    savings = {name: changed for name, changed in _savings(execution).items() if changed != execution}
    return MemoryNeed(
        tokens_per_rank=tokens,
        bytes_per_rank=need.total,
        parts=need,
        machine_bytes=machine.memory_bytes,
        fits=need.total <= machine.memory_bytes,
        largest=_largest(shape, machine, execution, ranks),
        savings={name: _largest(shape, machine, changed, ranks) for name, changed in savings.items()},
    )


def _largest(shape: ModelShape, machine: Machine, execution: Execution, ranks: int) -> LargestWindow:
    room = largest_microbatch(shape, execution, machine, ranks=ranks)
    windows = {
        layout_name(ranks, d): room * d
        for d in DEGREES
        if ranks % d == 0 and shape.heads % d == 0 and d <= machine.ranks_per_node
    }
    host = rank_memory(shape, execution, ranks=ranks, tokens=room).host
    return LargestWindow(largest_window=windows, host_bytes_per_rank=host)


def _savings(execution: Execution) -> dict[str, Execution]:
    """Settings that would fit a longer window, by name; the cheapest first."""
    tiles = {"mlp_tile_tokens": execution.mlp_tile_tokens or 4096}
    activations = tiles | {"activation_offload": True, "gradient_checkpointing": True}
    # 4-bit weights cannot be offloaded, and are split on request only: without them the usual layout returns
    full: dict[str, Any] = {"quantize": None, "sharding": "full"} if execution.quantize else {}
    host = full | {"cpu_offload": True, "sharding": "full"}
    adapters = full | {"lora_rank": execution.lora_rank or 16}
    quantised = adapters | {"quantize": "4bit", "sharding": "none", "cpu_offload": False}
    changes: dict[str, dict[str, Any]] = {
        "MLP in tiles": tiles,
        "... and activations on the host": activations,
        "... and weights on the host": activations | host,
        "LoRA": adapters,
        "LoRA, tiles, activations on host": adapters | activations,
        "QLoRA": quantised,
        "QLoRA, tiles, activations on host": quantised | activations,
    }
    return {name: replace(execution, **change) for name, change in changes.items()}
