"""The plan's activation memory beside the tensors that are alive in a real step.

Bytes of live tensors are deterministic: no allocator, no other process. Memory inside an operator is not seen.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from longalign.core.hardware import Execution
from longalign.core.memory import rank_memory
from longalign.core.model_shape import ModelShape
from longalign.train.attention import pack_kwargs
from longalign.train.prepare import enable_checkpointing
from longalign.train.tiled_mlp import tile_mlps
from tests.makers.models import tiny_config
from tests.train.tiny import tiny_model

SEGMENT = 512
SIZES = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2048}
PLANNED = Execution(sharding="none", half=False, loss_chunk_tokens=1024)


class LiveBytes(TorchDispatchMode):
    """`peak`: most bytes of tensors made in here that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address in self.known:
            return
        self.known.add(address)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, address, storage.nbytes())

    def _forget(self, address: int, size: int) -> None:
        self.known.discard(address)
        self.alive -= size


def measured_and_predicted(execution: Execution, *, tokens: int, layers: int, width: int) -> tuple[float, float]:
    """Peak bytes of a forward and backward pass on one rank beyond weights and their gradients."""
    config = tiny_config(**SIZES, intermediate_size=width, num_hidden_layers=layers)
    model = tiny_model(config, dtype=torch.bfloat16 if execution.half else torch.float32).train()
    model.loss_chunk_rows = execution.loss_chunk_tokens
    if execution.gradient_checkpointing:
        enable_checkpointing(model, offload=False)
    if execution.mlp_tile_tokens:
        tile_mlps(model, execution.mlp_tile_tokens)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    positions_1T = torch.arange(tokens)[None] % SEGMENT
    ids_1T = torch.arange(tokens)[None] % SIZES["vocab_size"]
    with LiveBytes() as live:
        model(
            input_ids=ids_1T, position_ids=positions_1T, target_ids=ids_1T, loss_weights=torch.ones(1, tokens),
            **pack_kwargs(list(range(0, tokens + 1, SEGMENT))),
        ).loss.backward()  # fmt: skip
    need = rank_memory(ModelShape.from_config(config.to_dict()), execution, ranks=1, tokens=tokens)
    return float(live.peak), need.checkpoints + max(need.layer, need.head)


CHANGES: dict[str, dict[str, Any]] = {
    "checkpointed": {},
    "checkpointed, MLP in tiles": {"mlp_tile_tokens": 512},
    "all activations kept": {"gradient_checkpointing": False},
    "half precision": {"half": True, "sharding": "full", "cpu_offload": True},
}


@pytest.mark.parametrize("change", ["checkpointed", "half precision"])
def test_live_tensors_of_a_step_are_what_the_plan_says(change: str) -> None:
    measured, predicted = measured_and_predicted(replace(PLANNED, **CHANGES[change]), tokens=4096, layers=4, width=768)
    assert 0.8 < measured / predicted < 1.25


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_live_tensors_with_a_wide_mlp_are_what_the_plan_says(change: str) -> None:
    execution = replace(PLANNED, **CHANGES[change])
    measured, predicted = measured_and_predicted(execution, tokens=8192, layers=2, width=2048)
    assert 0.8 < measured / predicted < 1.25


@pytest.mark.slow
def test_live_tensors_of_a_pack_of_16k_tokens_are_what_the_plan_says() -> None:
    execution = replace(PLANNED, **CHANGES["checkpointed, MLP in tiles"])
    measured, predicted = measured_and_predicted(execution, tokens=16384, layers=4, width=768)
    assert 0.8 < measured / predicted < 1.25
