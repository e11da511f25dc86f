"""A stored model's answers in plain transformers, with one part of it at a time in float32 on the device.

The model stays in host memory in the dtype it is stored in. A part is a decoder layer, or any other module that has
weights of its own. Weights may be replaced by others, or moved at random, while they are in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longalign.data.tokenize import TokenSequence
from longalign.errors import ModelError
from longalign.train.parallel.fsdp2 import decoder_layers

NF4_ERROR = 0.1
"""Root mean square error of weights in 4 bits (NF4, blocks of 64), in units of that of the weights."""
FloatArray = NDArray[np.float64]
Noise = Callable[[Tensor, torch.Generator, bool], Tensor]
"""Gets a weight, what to draw from, and whether the weight is in a decoder layer; returns the weight, moved."""


@dataclass(frozen=True)
class PaddedRows:
    """Sequences as padded rows: token ids, where they are, and which are targets, all [N, T]."""

    ids_NT: Tensor
    mask_NT: Tensor
    target_NT: Tensor

    @classmethod
    def of(cls, sequences: Sequence[TokenSequence]) -> PaddedRows:
        longest = max(piece.length_tokens for piece in sequences)
        ids_NT = torch.zeros(len(sequences), longest, dtype=torch.long)
        mask_NT, target_NT = torch.zeros_like(ids_NT), torch.zeros_like(ids_NT, dtype=torch.bool)
        for row, piece in enumerate(sequences):
            ids_NT[row, : piece.length_tokens] = torch.from_numpy(piece.ids_T.astype(np.int64))
            mask_NT[row, : piece.length_tokens] = 1
            target_NT[row, : piece.length_tokens] = torch.from_numpy(piece.target_T)
        return cls(ids_NT, mask_NT, target_NT)

    def nll(
        self,
        model: nn.Module,
        device: torch.device,
        weights: Mapping[str, Tensor] | None = None,
        noise: Noise | None = None,
    ) -> FloatArray:
        """Negative log-likelihoods of all targets, by a plain model in host memory, computed on `device` in float32
        (float64 where it is stored so); with `weights` in place of its own if given."""
        with torch.no_grad(), _widened(model, device, weights, noise):
            logits_NTV = cast(Any, model)(
                input_ids=self.ids_NT.to(device), attention_mask=self.mask_NT.to(device)
            ).logits
        rows_N, places_N = self.target_NT.nonzero(as_tuple=True)
        logits_MV = logits_NTV[rows_N, places_N - 1].cpu().double()
        found: FloatArray = nn.functional.cross_entropy(
            logits_MV, self.ids_NT[rows_N, places_N], reduction="none"
        ).numpy()
        return found


@contextmanager
def _widened(
    model: nn.Module, device: torch.device, weights: Mapping[str, Tensor] | None, noise: Noise | None
) -> Iterator[None]:
    """While a part of the model runs, its weights are on `device` in float32, so that only one part is at a time."""
    generator = torch.Generator(device).manual_seed(0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)
    kept: dict[int, list[Tensor]] = {}
    handles = []

    def enter(module: nn.Module, parameters: Sequence[nn.Parameter], in_layer: bool) -> None:
        kept[id(module)] = [parameter.data for parameter in parameters]
        for parameter in parameters:
            wide = torch.float64 if parameter.dtype == torch.float64 else torch.float32
            value = (weights[names[id(parameter)]] if weights else parameter.data).to(device, wide)
            parameter.data = noise(value, generator, in_layer) if noise else value

    def leave(module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, value in zip(parameters, kept.pop(id(module)), strict=True):
            parameter.data = value

    for module, parameters, in_layer in _parts(model):
        handles += [
            module.register_forward_pre_hook(lambda m, args, p=parameters, i=in_layer: enter(m, p, i)),
            module.register_forward_hook(lambda m, args, out, p=parameters: leave(m, p)),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parts(model: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Parameter], bool]]:
    """Decoder layers, and every other module that has weights of its own; whether it is a layer."""
    try:
        layers = decoder_layers(model)
    except ModelError:
        layers = []
    inside = {id(module) for layer in layers for module in layer.modules()}
    for layer in layers:
        yield layer, list(layer.parameters()), True
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and id(module) not in inside:
            yield module, own, False


def rounding_of(dtype: torch.dtype) -> Noise | None:
    """Moves weights by up to half a unit of their last place in 16 bits; None where training computed in more."""
    half_unit = torch.finfo(dtype).eps / 2
    if torch.finfo(dtype).bits > 16:
        return None

    def noise(weight: Tensor, generator: torch.Generator, in_layer: bool) -> Tensor:
        moved = torch.rand(weight.shape, generator=generator, device=weight.device, dtype=weight.dtype)
        return weight * (1 + half_unit * (2 * moved - 1))

    return noise


def quantised(weight: Tensor, generator: torch.Generator, in_layer: bool) -> Tensor:
    """Matrices of layers with an error as that of 4 bits."""
    if weight.ndim < 2 or not in_layer:
        return weight
    drawn = torch.randn(weight.shape, generator=generator, device=weight.device, dtype=weight.dtype)
    return weight + NF4_ERROR * weight.square().mean().sqrt() * drawn
