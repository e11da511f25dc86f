"""Two ways to make decoder layers cheaper: the MLP in tiles of the sequence (`tile_mlps`), and Liger's fused kernels.

A gated MLP keeps four tensors of [tokens, intermediate] for its backward pass: more than the rest of the layer. It
treats each token by itself, so a tile of them can be computed, forgotten, and recomputed when its gradients are due
(inside the layer's own checkpoint, if there is one). The price is one more forward pass of the MLP
(benchmarks/tiled_mlp.py).

Liger's Triton kernels for norms, gated MLPs and RoPE go in through the function behind transformers' own switch, where
the model is built, so that the isolation check runs on them (Trainer would apply them later). Liger's losses stay off,
because the loss of train/loss.py carries weights and denominators. Liger replaces RoPE for the whole process.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from longalign.errors import ModelError
from longalign.train.parallel.fsdp2 import decoder_layers


def tile_mlps(model: nn.Module, tile_tokens: int) -> tuple[int, int]:
    """Make every dense gated MLP of `model` work on `tile_tokens` tokens at a time; returns (tiled, layers).

    The class of each MLP becomes a subclass of itself under the same name, so parameters keep their names. Mixtures of
    experts are left as they are: experts see few tokens at once already. Raises `ModelError` if there is no dense one.
    """
    layers = decoder_layers(model)
    mlps = [mlp for layer in layers if isinstance(mlp := getattr(layer, "mlp", None), nn.Module) and _is_dense(mlp)]
    if not mlps:
        raise ModelError(
            f"mlp_tile_tokens: {type(model).__name__} has no dense gated MLP to compute in tiles; leave it"
        )
    for mlp in mlps:
        mlp.__class__ = type(type(mlp).__name__, (_Tiled, type(mlp)), {"__module__": type(mlp).__module__})
        cast(Any, mlp).tile_tokens = tile_tokens
    return len(mlps), len(layers)


def _is_dense(mlp: nn.Module) -> bool:
    """A gate and a way up (one matrix or two), and a way down; nothing that chooses between tokens."""
    names = {name for name, _ in mlp.named_children()}
    return names >= {"down_proj"} and bool(names & {"gate_proj", "gate_up_proj"}) and not names & {"experts", "router"}


class _Tiled(nn.Module):
    """Mixed into the MLP's class in front of it."""

    tile_tokens: int

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        whole = super().forward
        tiles = torch.split(hidden_BTD.flatten(0, -2), self.tile_tokens)
        if len(tiles) == 1:
            return cast(Tensor, whole(hidden_BTD))
        return torch.cat([checkpoint(whole, tile_TD, use_reentrant=False) for tile_TD in tiles]).view_as(hidden_BTD)


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
