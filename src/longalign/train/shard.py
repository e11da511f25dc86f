"""FSDP2: parameters, gradients and optimizer states spread over ranks, one unit a decoder layer.

Applied here rather than through accelerate's plugin, which shards on accelerators only and silently falls back to DDP
on CPU: this way the code that is proven equal with gloo on CPU is the code that runs on GPUs.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from longalign.config import LoopSettings
from longalign.errors import ModelError
from longalign.train import ranks


def shard(model: nn.Module, settings: LoopSettings) -> nn.Module:
    """Shard `model` in place over all ranks. Weights stay float32; on GPUs layers compute in `settings.dtype`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(device, (ranks.count(),))
    how: dict[str, Any] = {"mesh": mesh}
    if device == "cuda" and settings.dtype == "bfloat16":
        how["mp_policy"] = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    how["offload_policy"] = CPUOffloadPolicy() if settings.cpu_offload and device == "cuda" else OffloadPolicy()
    for layer in decoder_layers(model):
        fully_shard(layer, **how)
    fully_shard(model, **how)
    return model


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a transformers model, PEFT-wrapped or not."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    if not names and hasattr(model, "get_base_model"):
        names = set(cast(Any, model).get_base_model()._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ModelError(f"{type(model).__name__} does not say which of its modules are layers; use --parallel ddp")
    return layers


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def reshard(model: nn.Module) -> None:
    """Give back gathered weights after a forward pass without backward; the root keeps them for one otherwise."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
