"""DeepSpeed ZeRO-3, parameter by parameter, so that checkpoints hold whole tensors under parameter names here too.

ZeRO-3 keeps the float32 weights and the optimizer's state in flat buffers, one partition a rank. Its own checkpoints
are those buffers, pickled, for one number of ranks only; here they are read and written through DeepSpeed's tensor
access (https://deepspeed.readthedocs.io/en/latest/zero3.html#gathering-parameters).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from longalign.config import LoopSettings
from longalign.train.parallel import ranks
from longalign.train.parallel.placement import Placement


def is_partitioned(parameter: Tensor) -> bool:
    """Whether ZeRO-3 keeps a stub in place of this parameter."""
    return hasattr(parameter, "ds_id")


def whole(parameter: Tensor, key: str | None = None) -> Tensor:
    """The float32 weight, or state `key` of the optimizer, in full; a frozen weight in its own dtype.

    Every rank calls it.
    """
    import deepspeed

    if not parameter.requires_grad:
        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    if key is None:
        found: Tensor = deepspeed.utils.safe_get_full_fp32_param(parameter)
    else:
        found = deepspeed.utils.safe_get_full_optimizer_state(parameter, key)
    return found


def put(parameter: Tensor, value: Tensor, key: str | None = None) -> None:
    """Set this rank's part of the float32 weight, or of state `key`, from the `value` in full, which all ranks have."""
    import deepspeed

    size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]  # the last partition is filled up
    flat = pad(value.flatten(), (0, size * ranks.world_size() - value.numel()))
    mine = flat[size * ranks.rank() : size * (ranks.rank() + 1)]
    if key is None:
        deepspeed.utils.safe_set_local_fp32_param(parameter, mine)
    else:
        deepspeed.utils.safe_set_local_optimizer_state(parameter, mine, key)


def state_kinds(optimizer: Any) -> dict[str, Tensor]:
    """One example of each kind of state: a number that all parameters share (AdamW's `step`), or a flat buffer."""
    return dict(optimizer.state[optimizer.fp32_partitioned_groups_flat[0]])


def make_state(optimizer: Any, kinds: Mapping[str, Tensor]) -> None:
    """The state that a first step would make: numbers as in `kinds`, and zeros that `put` can fill."""
    for flat in optimizer.fp32_partitioned_groups_flat:
        optimizer.state[flat] = {
            key: torch.zeros_like(flat) if value.ndim else value.to(flat.device, copy=True)
            for key, value in kinds.items()
        }


def build_plainly() -> None:
    """Training is over: transformers would spread every model that is built over all ranks, and wait for them."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def deepspeed_config(settings: LoopSettings, placement: Placement) -> dict[str, Any]:
    """ZeRO-3 as in the paper, with optional offload to host memory."""
    offload = {"device": "cpu" if placement.cpu_offload else "none"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.max_grad_norm,
        "bf16": {"enabled": placement.dtype == torch.bfloat16},
        "zero_force_ds_cpu_optimizer": False,  # our optimizer, wherever the parameters live
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "offload_optimizer": offload,
            "offload_param": offload,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
    }
