"""FSDP2: parameters, gradients and optimizer states spread over ranks, one unit a decoder layer.

Applied here rather than through accelerate's plugin, which shards on accelerators only and silently falls back to DDP
on CPU: this way the code that is proven equal with gloo on CPU is the code that runs on GPUs.

Only the first rank holds whole weights. The others build the model on `meta`, without memory; unit by unit the first
rank sends its tensors, every rank keeps its shard of them, and the whole unit is freed. Weights in 4 bits are an
exception: every rank makes them, all alike, and keeps its shard.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from longalign.errors import ModelError
from longalign.train.parallel import ranks
from longalign.train.parallel.placement import Placement
from longalign.train.wrapper import without_peft


def shard(model: nn.Module, placement: Placement) -> nn.Module:
    """Shard `model` in place over all ranks, with the first rank's weights; on the others it may lie on `meta`.

    Weights keep their dtype; on GPUs layers compute in `placement.dtype`. Every rank calls it, after `placement.join`.
    """
    ranks.wait_for_first()  # it has read the weights by now
    device = placement.device
    how: dict[str, Any] = {"mesh": init_device_mesh(device.type, (placement.world_size,))}
    if placement.dtype == torch.bfloat16:
        how["mp_policy"] = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    how["offload_policy"] = CPUOffloadPolicy() if placement.cpu_offload and placement.on_gpu else OffloadPolicy()
    for unit in (*decoder_layers(model), model):
        _receive(unit, device)
        fully_shard(unit, **how)
    return model


def _receive(unit: nn.Module, device: torch.device) -> None:
    """Put the tensors of `unit` that are not sharded yet on `device`, with the first rank's values and dtypes."""
    tensors = [t for t in chain(unit.parameters(), unit.buffers()) if not isinstance(t, DTensor) and not in_4_bits(t)]
    dtypes = ranks.broadcast([t.dtype for t in tensors])
    for tensor, dtype in zip(tensors, dtypes, strict=True):
        if ranks.is_first():
            value = tensor.detach().to(device).contiguous()
        else:
            value = torch.empty(tensor.shape, dtype=dtype, device=device)
        dist.broadcast(value, src=0)
        if tensor.is_meta:  # stays the same object, so that tied weights stay tied
            kept = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value.detach()
            torch.utils.swap_tensors(tensor, kept)  # type: ignore[no-untyped-call]
        else:
            tensor.data = value


def in_4_bits(tensor: Tensor) -> bool:
    """Whether bitsandbytes quantised it, on this rank: its constants are beside it, so that it is not sent."""
    return getattr(tensor, "quant_state", None) is not None


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` placed as `parameter` is: on its device, and as its shard. Every rank has the whole `value`.

    Not by `distribute_tensor`, which would leave the shards of offloaded parameters on the GPU.
    """
    if not isinstance(parameter, DTensor):
        return value.to(parameter.device)
    shape, start = compute_local_shape_and_global_offset(value.shape, parameter.device_mesh, parameter.placements)
    placed = cast(DTensor, torch.empty_like(parameter, dtype=value.dtype, requires_grad=False))
    mine = tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))
    placed.to_local().copy_(value[mine])
    return placed


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks of a transformers model, PEFT-wrapped or not."""
    names = set(getattr(without_peft(model), "_no_split_modules", None) or ())
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
