"""Two ways to make decoder layers cheaper: the MLP in tiles of the sequence (`tile_mlps`), and Liger's fused kernels.

A gated MLP keeps four tensors of [tokens, intermediate] for its backward pass: more than the rest of the layer. It
treats each token by itself, so a tile of them can be computed, forgotten, and recomputed when its gradients are due
(inside the layer's own checkpoint, if there is one). The price is one more forward pass of the MLP
(benchmarks/tiled_mlp.py).
"""

from __future__ import annotations

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
