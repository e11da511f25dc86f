"""Before training: prove on this model, this device and this precision that packed segments do not see each other.

Three questions, on a few hundred random tokens:
1. *equal*: are the logits of a pack those of its segments run one at a time through transformers' own attention?
2. *isolated*: when one segment's tokens change, do the logits of all others stay?
3. *loss*: is the chunked loss (`loss.attach_loss`) the cross-entropy of the model's own logits?

Answers are errors relative to the spread of the logits, compared with a tolerance by dtype (`TOLERANCES`). A position's
error is the root mean square over the vocabulary: by chance the worst of 150,000 logits is off by five times that, and
two kernels in half precision differ by a few percent after 36 layers. In half precision the first takes the median over
positions: rounding may send a token of a mixture-of-experts model to another expert. The second runs the same shapes
twice, hence is nearly free of rounding, and takes the maximum. The third is relative to the largest logit, which half
precision rounds by as much as a loss may be off. For a mixture of experts that trains a balance loss, this is compared
with transformers' value of it too.

`check_rows` asks the same of a batch of rows padded on the right, in which the padding is changed as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from longalign.errors import ModelError, first_line
from longalign.train.attention import pack_kwargs
from longalign.train.model import own_attention
from longalign.train.router_loss import router_loss_of
from longalign.train.segment_rows import rows_of_segments
from longalign.train.wrapper import is_wrapper, without_peft

SEGMENTS = (37, 1, 90, 64)
"""Lengths in tokens: odd ones, a single token, and a changed segment (the third) with neighbours on both sides."""


@dataclass(frozen=True)
class Tolerance:
    equal: float
    isolated: float
    loss: float


TOLERANCES = {
    torch.float64: Tolerance(
        equal=1e-6, isolated=1e-9, loss=1e-6
    ),  # norms and rotary tables stay float32 in transformers
    torch.float32: Tolerance(equal=2e-3, isolated=1e-4, loss=1e-3),
    torch.float16: Tolerance(equal=2e-2, isolated=5e-3, loss=5e-3),
    torch.bfloat16: Tolerance(equal=1e-1, isolated=3e-2, loss=2e-2),
}


@dataclass(frozen=True)
class IsolationReport:
    """Errors found (relative to the spread of logits; `loss` is None without attached loss), all within tolerance."""

    dtype: str
    equal_error: float
    isolated_error: float
    loss_error: float | None
    tolerance: Tolerance
    layout: Literal["packed", "rows"] = "packed"
    attention: str = ""
    """The attention implementation that was checked."""


def check_isolation(
    model: nn.Module, *, seed: int = 0, tolerance: Tolerance | None = None, backend: str = "auto"
) -> IsolationReport:
    """Run the three checks on a pack; raises `ModelError` saying which failed and by how much.

    Call it on the model that will train (PEFT-wrapped or not) before DDP or FSDP wraps it, on its device, and under the
    autocast it will train with, so that the same kernel is checked.
    """
    lengths = segments(without_peft(model).config)
    bounds = np.cumsum([0, *lengths]).tolist()
    places = list(pairwise(bounds))
    return _check(model, "packed", bounds, places, seed=seed, tolerance=tolerance, backend=backend)


def check_rows(model: nn.Module, *, seed: int = 0, tolerance: Tolerance | None = None) -> IsolationReport:
    """The same on a batch of rows of one sequence each, padded on the right; it is called and fails likewise."""
    lengths = segments(without_peft(model).config)
    width = max(lengths)
    bounds = [width * row for row in range(len(lengths) + 1)]
    places = [(start, start + length) for start, length in zip(bounds, lengths, strict=False)]
    return _check(model, "rows", bounds, places, seed=seed, tolerance=tolerance, backend="auto")


def attempt(model: nn.Module, what: str, check: Callable[[], IsolationReport]) -> IsolationReport:
    """`check()`; what the model's own code raises on the way becomes a `ModelError`."""
    try:
        return check()
    except torch.OutOfMemoryError:
        raise
    except (ValueError, TypeError, RuntimeError, AttributeError, LookupError, AssertionError) as error:
        reason = first_line(error).rstrip(".")
        raise ModelError(f"{type(without_peft(model)).__name__} does not run on {what}: {reason}") from error


def _check(
    model: nn.Module,
    layout: Literal["packed", "rows"],
    bounds: list[int],
    places: list[tuple[int, int]],
    *,
    seed: int,
    tolerance: Tolerance | None,
    backend: str,
) -> IsolationReport:
    """`bounds` are the segments of the batch laid end to end, `places` where the real tokens of each are."""
    plain = without_peft(model)
    device = next(model.parameters()).device
    dtype = plain.get_output_embeddings().weight.dtype
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    limits = tolerance or TOLERANCES[dtype]
    vocabulary = plain.config.get_text_config().vocab_size
    draw = np.random.default_rng((seed, 0x150))
    ids_T = torch.from_numpy(draw.integers(0, vocabulary, bounds[-1])).to(device)
    packed = {
        "position_ids": torch.cat([torch.arange(b - a, device=device) for a, b in pairwise(bounds)])[None],
        **pack_kwargs(bounds, device=device, backend=backend),
    }
    real_T = torch.zeros(bounds[-1], dtype=torch.bool, device=device)
    for start, stop in places:
        real_T[start:stop] = True

    def together(ids_T: Tensor) -> Tensor:
        inputs = {"input_ids": ids_T[None], **packed}
        return logits_of(model, **(rows_of_segments(inputs) if layout == "rows" else inputs)).flatten(0, 1)

    was_training, was_rows = model.training, getattr(plain, "one_sequence_a_row", False)
    try:
        with torch.no_grad():
            model.eval()
            separate_TV = _separate_logits(model, plain, ids_T, places)
            model.train(not is_wrapper(plain.config) and not _drops_out(model))  # kernels may differ in training
            logits_TV = together(ids_T)
            spread = float(separate_TV.std())
            error_R = _difference(logits_TV[real_T], separate_TV) / spread
            half = dtype in (torch.float16, torch.bfloat16)
            errors = torch.split(error_R, [stop - start for start, stop in places])
            equal = float(max(error.median() if half else error.max() for error in errors))

            start, end = places[2]
            changed_T = torch.where(real_T, ids_T, (ids_T + 1) % vocabulary)  # in rows: the padding
            changed_T[start:end] = (ids_T[start:end] + 1) % vocabulary
            moved_T = _difference(together(changed_T), logits_TV) / spread
            others_T = real_T.clone()
            others_T[start:end] = False
            isolated = float(moved_T[others_T].max())
            loss = None
            if hasattr(plain, "loss_chunk_rows"):
                plain.one_sequence_a_row = layout == "rows"
                loss = _loss_error(model, ids_T, logits_TV, packed)
        router = _router_error(plain, ids_T[places[0][0] : places[0][1]])
    finally:
        model.train(was_training)
        if hasattr(plain, "loss_chunk_rows"):
            plain.one_sequence_a_row = was_rows

    report = IsolationReport(
        str(dtype).removeprefix("torch."), equal, isolated, loss, limits, layout, plain.config._attn_implementation
    )
    name = type(plain).__name__
    one, kind = ("packed segment", "a pack") if layout == "packed" else ("row or padding", "rows padded on the right")
    if not isolated <= limits.isolated:
        raise ModelError(
            f"{name}: changing one {one} moves the logits of others by {isolated:.2g} of their spread "
            f"(limit {limits.isolated:g}): segments leak, training would be wrong"
        )
    if not equal <= limits.equal:
        raise ModelError(
            f"{name}: logits of {kind} differ from those of its segments alone by {equal:.2g} of their spread "
            f"(limit {limits.equal:g} in {report.dtype}): packed attention does not fit this model"
        )
    if loss is not None and not loss <= limits.loss:
        raise ModelError(
            f"{name}: the chunked loss differs from the cross-entropy of the model's logits by {loss:.2g} of the "
            f"largest logit (limit {limits.loss:g}): its head does more than a linear layer, a scale and a soft cap"
        )
    if router is not None and not router <= 0.02:
        raise ModelError(
            f"{name}: the balance loss of its experts differs from transformers' by {router:.2g} of its value; set "
            "output_router_logits to false in config.json to train without it"
        )
    return report


def segments(config: Any) -> tuple[int, ...]:
    """The usual lengths, one of them stretched beyond a small sliding window so that the window is tested too."""
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None) or 0
    if 0 < window <= 1024:
        return (SEGMENTS[0], SEGMENTS[1], max(SEGMENTS[2], window + window // 4 + 3), SEGMENTS[3])
    return SEGMENTS


def logits_of(model: nn.Module, input_ids: Tensor, **kwargs: Any) -> Tensor:
    """[B, T, V] of the model as it stands, in float32 at least."""
    logits: Tensor = model(input_ids=input_ids, use_cache=False, **kwargs).logits
    return logits.double() if logits.dtype == torch.float64 else logits.float()


def _drops_out(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())


def _difference(a_TV: Tensor, b_TV: Tensor) -> Tensor:
    return (a_TV - b_TV).square().mean(dim=1).sqrt()


def _separate_logits(model: nn.Module, plain: Any, ids_T: Tensor, places: list[tuple[int, int]]) -> Tensor:
    """Each segment by itself, through transformers' own attention, as `generate` would."""
    ours = plain.config._attn_implementation
    plain.set_attn_implementation(own_attention(type(plain)))
    try:
        return torch.cat([logits_of(model, ids_T[None, a:b])[0] for a, b in places])
    finally:
        plain.set_attn_implementation(ours)


def _loss_error(model: nn.Module, ids_T: Tensor, logits_TV: Tensor, packed: dict[str, Any]) -> float:
    targets_T = ids_T.roll(-1)
    weights_T = torch.ones_like(targets_T, dtype=torch.float32)
    nll = model(input_ids=ids_T[None], target_ids=targets_T[None], loss_weights=weights_T[None], **packed).nll[0]
    off_T = (nll - cross_entropy(logits_TV, targets_T, reduction="none")).abs()
    return float((off_T / logits_TV.abs().amax(dim=1).clamp_min(1.0)).max())


def _router_error(plain: Any, ids_L: Tensor) -> float | None:
    """Our balance loss of one sequence against transformers', relative to it; None where none is trained."""
    asked = router_loss_of(plain)
    if asked is None:
        return None
    with torch.no_grad():
        output = plain(input_ids=ids_L[None], use_cache=False, output_router_logits=True)
        weights_L = torch.full(ids_L.shape, asked.coefficient**-1 / len(ids_L), device=ids_L.device)
        ours = float(asked.of(output.router_logits, weights_L, {"input_ids": ids_L[None]}))
    return abs(ours - float(output.aux_loss)) / float(output.aux_loss)
