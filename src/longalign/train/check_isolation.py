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
precision rounds by as much as a loss may be off.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from longalign.errors import ModelError
from longalign.train.attention import pack_kwargs

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


def check_isolation(
    model: nn.Module, *, seed: int = 0, tolerance: Tolerance | None = None, backend: str = "auto"
) -> IsolationReport:
    """Run the three checks; raises `ModelError` saying which failed and by how much.

    Call it on the model that will train (PEFT-wrapped or not) before DDP or FSDP wraps it, on its device, and under the
    autocast it will train with, so that the same kernel is checked.
    """
    plain = cast(Any, model)
    if hasattr(plain, "get_base_model"):  # PEFT
        plain = plain.get_base_model()
    device = next(model.parameters()).device
    dtype = plain.get_output_embeddings().weight.dtype
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    limits = tolerance or TOLERANCES[dtype]
    lengths = _segments(plain.config)
    cu_seqlens = np.cumsum([0, *lengths])
    draw = np.random.default_rng((seed, 0x150))
    ids_T = torch.from_numpy(draw.integers(0, plain.config.vocab_size, int(cu_seqlens[-1]))).to(device)
    packed = {
        "position_ids": torch.cat([torch.arange(n, device=device) for n in lengths])[None],
        **pack_kwargs(cu_seqlens.tolist(), device=device, backend=backend),
    }
    bounds = list(zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True))

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits_TV = _logits(model, ids_T, **packed)
            separate_TV = _separate_logits(model, plain, ids_T, bounds)
            spread = float(separate_TV.std())
            error_T = _difference(logits_TV, separate_TV) / spread
            half = dtype in (torch.float16, torch.bfloat16)
            equal = float(max(error_T[a:b].median() if half else error_T[a:b].max() for a, b in bounds))

            start, end = bounds[2]
            changed_T = ids_T.clone()
            changed_T[start:end] = (ids_T[start:end] + 1) % plain.config.vocab_size
            moved_T = _difference(_logits(model, changed_T, **packed), logits_TV) / spread
            isolated = float(torch.cat([moved_T[:start], moved_T[end:]]).max())
            loss = _loss_error(model, ids_T, logits_TV, packed) if hasattr(plain, "loss_chunk_rows") else None
    finally:
        model.train(was_training)

    report = IsolationReport(str(dtype).removeprefix("torch."), equal, isolated, loss, limits)
    name = type(plain).__name__
    if not isolated <= limits.isolated:
        raise ModelError(
            f"{name}: changing one packed segment moves the logits of others by {isolated:.2g} of their spread "
            f"(limit {limits.isolated:g}): segments leak, training would be wrong"
        )
    if not equal <= limits.equal:
        raise ModelError(
            f"{name}: logits of a pack differ from those of its segments alone by {equal:.2g} of their spread "
            f"(limit {limits.equal:g} in {report.dtype}): packed attention does not fit this model"
        )
    if loss is not None and not loss <= limits.loss:
        raise ModelError(
            f"{name}: the chunked loss differs from the cross-entropy of the model's logits by {loss:.2g} of the "
            f"largest logit (limit {limits.loss:g}): its head does more than a linear layer, a scale and a soft cap"
        )
    return report


def _segments(config: Any) -> tuple[int, ...]:
    """The usual lengths, one of them stretched beyond a small sliding window so that the window is tested too."""
    window = getattr(config, "sliding_window", None) or 0
    if 0 < window <= 1024:
        return (SEGMENTS[0], SEGMENTS[1], max(SEGMENTS[2], window + window // 4 + 3), SEGMENTS[3])
    return SEGMENTS


def _difference(a_TV: Tensor, b_TV: Tensor) -> Tensor:
    return (a_TV - b_TV).square().mean(dim=1).sqrt()


def _logits(model: nn.Module, ids_T: Tensor, **kwargs: Any) -> Tensor:
    logits: Tensor = model(input_ids=ids_T[None], use_cache=False, **kwargs).logits[0]
    return logits.double() if logits.dtype == torch.float64 else logits.float()


def _separate_logits(model: nn.Module, plain: Any, ids_T: Tensor, bounds: list[tuple[int, int]]) -> Tensor:
    """Each segment by itself, through transformers' SDPA (eager where a model has none), as `generate` would."""
    ours = plain.config._attn_implementation
    plain.set_attn_implementation("sdpa" if plain._supports_sdpa else "eager")
    try:
        return torch.cat([_logits(model, ids_T[a:b]) for a, b in bounds])
    finally:
        plain.set_attn_implementation(ours)


def _loss_error(model: nn.Module, ids_T: Tensor, logits_TV: Tensor, packed: dict[str, Any]) -> float:
    targets_T = ids_T.roll(-1)
    weights_T = torch.ones_like(targets_T, dtype=torch.float32)
    nll = model(input_ids=ids_T[None], target_ids=targets_T[None], loss_weights=weights_T[None], **packed).nll[0]
    off_T = (nll - cross_entropy(logits_TV, targets_T, reduction="none")).abs()
    return float((off_T / logits_TV.abs().amax(dim=1).clamp_min(1.0)).max())
