"""Is `final` the model that trained? Both are asked for log-probabilities of the same targets.

The trained model computes as it trained: packed (or in rows where it takes no packs), on all ranks, in its precision.
`final` is loaded from disk by plain transformers, one padded row for each sequence, with eager attention (or the one of
transformers that it trained with). It computes twice: as stored, which says what rounding costs, and with the weights
from before rounding. The latter must agree with the trained model up to the precision of training, and every stored
weight must be the rounded one, bit by bit.

Training in float32 leaves differences near 1e-6. What 16 bits or 4 bits leave is measured: `final` computes once more
with weights moved at random as far as that precision moves them.

Cost: on the first rank, host memory for `final` as stored and its largest layer in float32, beside the weights before
rounding that the export holds; two or three forward passes over a few hundred tokens, layer by layer on the device of
training. No generator is touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from longalign.data.store import TokenStore
from longalign.data.tokenize import TokenSequence
from longalign.train.admit import takes_rows
from longalign.train.collate import collate
from longalign.train.loss import IGNORE
from longalign.train.model import load_config
from longalign.train.parallel import ranks
from longalign.train.parallel import zero3 as zero
from longalign.train.parallel.fsdp2 import reshard
from longalign.train.parallel.placement import Placement
from longalign.train.parallel.ulysses import model_inputs
from longalign.train.plain_forward import FloatArray, PaddedRows, quantised, rounding_of
from longalign.train.wrapper import loader_of

ROWS = 8
ROW_TOKENS = 96
EXPLAINED = 8.0
"""Differences up to this many times those of moved weights: activations are rounded too, and samples are small."""
SMALLEST = 1e-3
"""Mean differences below this are never a fault."""
WORTH_SAYING = 2e-3
"""A change of the loss by rounding from which on the way to avoid it is shown."""


@dataclass(frozen=True, kw_only=True)
class ExportCheck:
    """What the trained model and `final` say of `targets` tokens in `rows` sequences.

    loss_*: mean negative log-likelihood. mean_difference, max_difference: between log-probabilities of the trained
    model and of `final` as stored, in `dtype`. unrounded_difference: the mean with weights from before rounding, of
    which `allowed` is no fault. wrong: a stored weight that is not the trained one, rounded.
    """

    rows: int
    targets: int
    loss_trained: float
    loss_exported: float
    mean_difference: float
    max_difference: float
    unrounded_difference: float
    allowed: float
    dtype: str
    in_4_bits: bool = False
    wrong: str | None = None

    @property
    def holds(self) -> bool:
        """Whether `final` is the model that trained, rounded; not-a-number is not."""
        return self.wrong is None and self.unrounded_difference <= self.allowed

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
            return f"{text}. Rounding does this: --export_dtype float32 writes final again without it"
        return text

    def fault(self, final: Path) -> str:
        """What to tell when it does not hold."""
        what = (
            f"{self.wrong} is not the weight that trained"
            if self.wrong
            else f"without rounding, log-probabilities of {self.targets} targets differ by "
            f"{self.unrounded_difference:.3g} on average, and {self.allowed:.2g} is explained"
        )
        return (
            f"{final}: is not the model that trained: {what}. Do not use it. The checkpoints are complete: the same "
            "command exports again. Please report this with the model's name"
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"holds": self.holds}


def sample_of(store: TokenStore) -> list[TokenSequence]:
    """The ends of up to `ROWS` sequences, short ones and long ones, each up to its last target."""
    order = np.argsort(store.lengths, kind="stable")
    order = order[store.target_counts[order] > 0]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(ROWS, len(order))).round().astype(int))]
    return [_end_of(store[row]) for row in chosen.tolist()]


def trained_nll(model: nn.Module, sequences: Sequence[TokenSequence], placement: Placement) -> FloatArray:
    """Negative log-likelihoods of all targets, by the model as it trains. Every rank calls it and gets them."""
    layout: Literal["padded", "packed"] = "padded" if takes_rows(model) else "packed"
    part = collate(sequences, range(len(sequences)), dict.fromkeys(range(len(sequences)), 1.0), layout=layout)
    training = model.training
    model.eval()
    with torch.no_grad(), placement.autocast() if placement.whole else nullcontext():
        nll_1T = cast(Any, model)(**model_inputs(part, placement.device, placement.group)).nll
    if placement.group:
        nll_1T = placement.group.gather(nll_1T)[:, : part.tokens]
    reshard(model)
    model.train(training)
    found: FloatArray = nll_1T.double().cpu()[part.target_ids_1T != IGNORE].numpy()
    return found


def check_export(
    final: Path,
    weights: Mapping[str, Tensor],
    sequences: Sequence[TokenSequence],
    trained_N: FloatArray,
    placement: Placement,
    *,
    in_4_bits: bool = False,
    attention: str = "eager",
) -> ExportCheck:
    """Compare `final` with what `trained_nll` found for the same sequences. One rank calls it.

    `weights`: all of them before rounding, under parameter names. `attention`: see `plain_attention`.
    """
    zero.build_plainly()
    with ranks.seeded(0):
        config = load_config(final)
        double = config.dtype == torch.float64  # grouped matrix products exist up to float32
        how = {"attn_implementation": attention} | ({"experts_implementation": "eager"} if double else {})
        model = loader_of(config).from_pretrained(str(final), dtype="auto", **how).eval()
    wrong = _not_rounded(model, weights)
    batch = PaddedRows.of(sequences)
    stored_N = batch.nll(model, placement.device)
    unrounded_N = stored_N if wrong else batch.nll(model, placement.device, weights)
    allowed = SMALLEST
    if noise := quantised if in_4_bits else rounding_of(placement.dtype):
        moved_N = batch.nll(model, placement.device, None if wrong else weights, noise)
        allowed = max(SMALLEST, EXPLAINED * float(np.abs(moved_N - unrounded_N).mean()))
    difference_N = np.abs(stored_N - trained_N)
    return ExportCheck(
        rows=len(sequences),
        targets=len(trained_N),
        loss_trained=float(trained_N.mean()),
        loss_exported=float(stored_N.mean()),
        mean_difference=float(difference_N.mean()),
        max_difference=float(difference_N.max()),
        unrounded_difference=float(np.abs(unrounded_N - trained_N).mean()),
        allowed=allowed,
        dtype=str(model.config.dtype).removeprefix("torch."),
        in_4_bits=in_4_bits,
        wrong=wrong,
    )


def plain_attention(model: nn.Module) -> str:
    """The attention of transformers to compare with: the one a model trained with, if it is transformers' own (those of
    Falcon with ALiBi do not agree with each other), else the plain definition."""
    plain = cast(Any, model)
    used = str(plain.config._attn_implementation)
    return used if takes_rows(model) and used in ("sdpa", "eager") else "eager"


def _not_rounded(model: nn.Module, weights: Mapping[str, Tensor]) -> str | None:
    """The first weight of the loaded model that is not the one of the same name in `weights`, rounded."""
    stored = cast(Any, model).config.dtype
    for name, parameter in model.named_parameters():  # some of them transformers widens again
        if name not in weights or not torch.equal(parameter.data, weights[name].to(stored).to(parameter.dtype)):
            return name
    return None


def _end_of(sequence: TokenSequence) -> TokenSequence:
    """At most `ROW_TOKENS` tokens up to the last target."""
    targets = np.flatnonzero(sequence.target_T)
    stop = int(targets[-1]) + 1 if len(targets) else sequence.length_tokens
    return sequence.take(slice(max(0, stop - ROW_TOKENS), stop))
