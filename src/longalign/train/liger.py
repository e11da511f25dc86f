"""Liger's fused Triton kernels for norms, gated MLPs and RoPE, through the function behind transformers' own switch.

Applied where the model is built, so that the isolation check runs on them (Trainer would apply them after it). Liger's
losses stay off: ours carries the weights and denominators. RoPE is replaced for the whole process, as Liger does it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import nn

from longalign.errors import ModelError


def use_liger_kernels(model: nn.Module, *, tiled_mlp: bool) -> None:
    """Give `model` Liger's kernels, in place. With `tiled_mlp` its MLPs keep theirs, which is computed in tiles.

    Raises `ModelError` without CUDA, without the package, and for models that Liger does not know.
    """
    check_liger()
    apply_kernels(model, tiled_mlp=tiled_mlp)


def check_liger() -> None:
    """Raise `ModelError` without CUDA and without the package."""
    if not torch.cuda.is_available():
        raise ModelError("liger_kernels: Liger's kernels are Triton and need a CUDA device; leave the setting out")
    if find_spec("liger_kernel") is None:
        raise ModelError("liger_kernels needs the `liger-kernel` package: pip install 'longalign[liger]'")


def apply_kernels(model: nn.Module, *, tiled_mlp: bool = False) -> None:
    """The same without looking at the machine; Triton's interpreter runs them on a CPU (TRITON_INTERPRET=1)."""
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    from transformers.integrations.liger import apply_liger_kernel

    kind = cast(Any, model).config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:  # Liger would only log it
        raise ModelError(f"liger_kernels: Liger has no kernels for {kind} models; leave the setting out")
    mlp = not tiled_mlp
    losses = {"cross_entropy": False, "fused_linear_cross_entropy": False}
    apply_liger_kernel(model, losses | {"rms_norm": True, "rope": True, "swiglu": mlp, "geglu": mlp})
