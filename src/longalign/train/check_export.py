"""Is `final` the model that trained? Both are asked for log-probabilities of the same targets.

The trained model computes as it trained: packed, on all ranks, in its precision. `final` is loaded from disk by plain
transformers, with its own attention, one padded row for each sequence. Weights that were rounded when they were stored
explain a difference; how much, on this model and these rows, is measured: `final` computes once more with every
weight moved at random within half a unit of its last place. A larger difference than that is a fault.

Cost: on the first rank, host memory for `final` as it is stored, its largest layer in float32, and two forward passes
over a few hundred tokens, layer by layer on the device of training. No generator is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from longalign.data.store import TokenStore
from longalign.data.tokenize import TokenSequence
from longalign.errors import ModelError
from longalign.train.collate import collate
from longalign.train.loss import IGNORE
from longalign.train.parallel import ranks
from longalign.train.parallel import zero3 as zero
from longalign.train.parallel.fsdp2 import decoder_layers, reshard
from longalign.train.parallel.placement import Placement
from longalign.train.parallel.ulysses import model_inputs

ROWS = 8
ROW_TOKENS = 96
NF4_ERROR = 0.1
"""Root mean square error of weights in 4 bits (NF4, blocks of 64), in units of that of the weights."""
EXPLAINED = 4.0
"""Differences up to this many times those of rounded weights are no fault: samples are small. Twice as many where
training computed in 16 bits, and so rounded activations too."""
SMALLEST = 1e-3
"""Mean differences below this are never a fault."""
WORTH_SAYING = 2e-3
"""A change of the loss from which on the way to avoid it is shown."""
FloatArray = NDArray[np.float64]
Noise = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """What the trained model and `final` say of `targets` tokens in `rows` sequences.

    loss_*: mean negative log-likelihood. *_difference: of log-probabilities, absolute. rounding: the mean difference
    of weights that are rounded at random, of which `explained` times are no fault. dtype: of the stored weights.
    """

    rows: int
    targets: int
    loss_trained: float
    loss_exported: float
    mean_difference: float
    max_difference: float
    rounding: float
    dtype: str
    in_4_bits: bool = False
    explained: float = EXPLAINED

    @property
    def holds(self) -> bool:
        """Whether rounding explains the difference; not-a-number does not."""
        return self.mean_difference <= max(SMALLEST, self.explained * self.rounding)

    def line(self) -> str:
        """Everything, for the console."""
        text = (
            f"export: loss on {self.targets} targets of {self.rows} rows {self.loss_trained:.4f} as trained, "
            f"{self.loss_exported:.4f} in final ({self.dtype}); log-probabilities differ by "
            f"{self.mean_difference:.2g} on average, {self.max_difference:.2g} at most"
        )
        if self.in_4_bits:
            return f"{text}; trained beside weights in 4 bits, stored beside the unquantised ones"
        if self.dtype != "float32" and abs(self.loss_exported - self.loss_trained) > WORTH_SAYING:
            return f"{text}; --export_dtype float32 avoids the rounding"
        return text

    def fault(self, final: Path) -> str:
        """What to tell when it does not hold."""
        return (
            f"{final}: is not the model that trained: log-probabilities of {self.targets} targets differ by "
            f"{self.mean_difference:.3g} on average, where rounding to {self.dtype} explains {self.rounding:.2g}. Do "
            "not use it. The checkpoints are complete: the same command exports again. Please report the model's name"
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"holds": self.holds}


def sample_of(store: TokenStore) -> list[TokenSequence]:
    """The ends of up to `ROWS` sequences, short ones and long ones, each up to its last target."""
    order = np.argsort(store.lengths, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(ROWS, len(order))).round().astype(int))]
    pieces = [_end_of(store[row]) for row in chosen.tolist()]
    return [piece for piece in pieces if piece.target_T.any()]


def trained_nll(model: nn.Module, sequences: Sequence[TokenSequence], placement: Placement) -> FloatArray:
    """Negative log-likelihoods of all targets, by the model as it trains. Every rank calls it and gets them."""
    part = collate(sequences, range(len(sequences)), dict.fromkeys(range(len(sequences)), 1.0), layout="packed")
    training = model.training
    model.eval()
    with torch.no_grad(), placement.autocast() if placement.whole else nullcontext():
        nll_1T = cast(Any, model)(**model_inputs(part, placement.device, placement.group)).nll
    if placement.group:
        nll_1T = placement.group.gather(nll_1T)[:, : part.tokens]
    reshard(model)
    model.train(training)
    found: FloatArray = nll_1T[part.target_ids_1T != IGNORE].double().cpu().numpy()
    return found


def check_export(
    final: Path,
    sequences: Sequence[TokenSequence],
    trained_N: FloatArray,
    placement: Placement,
    *,
    in_4_bits: bool = False,
) -> ExportCheck:
    """Compare `final` with what `trained_nll` found for the same sequences. One rank calls it."""
    from transformers import AutoModelForCausalLM

    zero.build_plainly()
    with ranks.seeded(0):
        model = AutoModelForCausalLM.from_pretrained(str(final), dtype="auto").eval()
    stored = cast(torch.dtype, model.dtype)
    coarser = max((stored, placement.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    exported_N = plain_nll(model, sequences, placement.device)
    noise = _quantised if in_4_bits else _rounded(torch.finfo(coarser).eps / 2)
    moved_N = plain_nll(model, sequences, placement.device, noise)
    difference_N = np.abs(exported_N - trained_N)
    return ExportCheck(
        rows=len(sequences),
        targets=len(trained_N),
        loss_trained=float(trained_N.mean()),
        loss_exported=float(exported_N.mean()),
        mean_difference=float(difference_N.mean()),
        max_difference=float(difference_N.max()),
        rounding=float(np.abs(moved_N - exported_N).mean()),
        dtype=str(stored).removeprefix("torch."),
        in_4_bits=in_4_bits,
        explained=EXPLAINED * (2 if placement.dtype == torch.bfloat16 or in_4_bits else 1),
    )


def plain_nll(
    model: nn.Module, sequences: Sequence[TokenSequence], device: torch.device, noise: Noise | None = None
) -> FloatArray:
    """Negative log-likelihoods of all targets, by a plain model in host memory, computed on `device` in float32 (in
    float64 where it is stored so)."""
    longest = max(piece.length_tokens for piece in sequences)
    ids_NT = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask_NT, target_NT = torch.zeros_like(ids_NT), torch.zeros_like(ids_NT, dtype=torch.bool)
    for row, piece in enumerate(sequences):
        ids_NT[row, : piece.length_tokens] = torch.from_numpy(piece.ids_T.astype(np.int64))
        mask_NT[row, : piece.length_tokens] = 1
        target_NT[row, : piece.length_tokens] = torch.from_numpy(piece.target_T)
    with torch.no_grad(), _widened(model, device, noise):
        logits_NTV = cast(Any, model)(input_ids=ids_NT.to(device), attention_mask=mask_NT.to(device)).logits
    rows_N, places_N = target_NT.nonzero(as_tuple=True)
    logits_MV = logits_NTV[rows_N, places_N - 1].cpu()
    found: FloatArray = nn.functional.cross_entropy(
        logits_MV.double(), ids_NT[rows_N, places_N], reduction="none"
    ).numpy()
    return found


def _end_of(sequence: TokenSequence) -> TokenSequence:
    """At most `ROW_TOKENS` tokens up to the last target."""
    targets = np.flatnonzero(sequence.target_T)
    stop = int(targets[-1]) + 1 if len(targets) else sequence.length_tokens
    return sequence.take(slice(max(0, stop - ROW_TOKENS), stop))


@contextmanager
def _widened(model: nn.Module, device: torch.device, noise: Noise | None) -> Iterator[None]:
    """While a part of the model runs, its weights are on `device` in float32, so that only one part is at a time."""
    generator = torch.Generator(device).manual_seed(0)
    for buffer in model.buffers():
        buffer.data = buffer.data.to(device)
    kept: dict[int, list[Tensor]] = {}
    handles = []

    def enter(module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        kept[id(module)] = [parameter.data for parameter in parameters]
        for parameter in parameters:
            wide = torch.float64 if parameter.dtype == torch.float64 else torch.float32
            value = parameter.data.to(device, wide)
            parameter.data = noise(value, generator) if noise else value

    def leave(module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        for parameter, value in zip(parameters, kept.pop(id(module)), strict=True):
            parameter.data = value

    for module, parameters in _parts(model):
        handles += [
            module.register_forward_pre_hook(lambda m, args, p=parameters: enter(m, p)),
            module.register_forward_hook(lambda m, args, out, p=parameters: leave(m, p)),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parts(model: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    """Decoder layers, and every other module that has weights of its own."""
    try:
        layers = decoder_layers(model)
    except ModelError:
        layers = []
    inside = {id(module) for layer in layers for module in layer.modules()}
    for layer in layers:
        yield layer, list(layer.parameters())
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and id(module) not in inside:
            yield module, own


def _rounded(half_unit: float) -> Noise:
    """Weights that would be stored as these are."""

    def noise(weight: Tensor, generator: torch.Generator) -> Tensor:
        moved = torch.rand(weight.shape, generator=generator, device=weight.device, dtype=weight.dtype)
        return weight * (1 + half_unit * (2 * moved - 1))

    return noise


def _quantised(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Matrices whose error is that of 4 bits."""
    if weight.ndim < 2:
        return weight
    drawn = torch.randn(weight.shape, generator=generator, device=weight.device, dtype=weight.dtype)
    return weight + NF4_ERROR * weight.square().mean().sqrt() * drawn
