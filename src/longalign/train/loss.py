"""The training loss: sum_t w_t * nll_t over target positions, without ever holding all logits.

How the trainer uses it (the denominators are already in the weights, see `core/weighting.py`; there is no divide here):

    attach_loss(model)                      # once, before PEFT, DDP or FSDP2 wrap the model
    out = model(input_ids=..., position_ids=..., **pack_kwargs(cu_seqlens_S1),
                target_ids=target_ids, loss_weights=weights)
    out.loss.backward()                     # out.loss: scalar, sum of weight x nll; out.nll: detached, one a position

`target_ids[t]` is the token that position t must predict (already shifted by one inside each segment), -100 where
there is none; `loss_weights[t]` is its weight. Both have the shape of `input_ids`. Without `target_ids` the model is
the plain transformers model.

Why inside `model.forward`: DDP prepares its gradient buckets, and FSDP2 gathers its sharded parameters, in hooks around
the call of the root module. The head runs through its own call too, so a head that was sharded by itself is
gathered as well. PEFT passes unknown keyword arguments on, so a LoRA model needs nothing else.

Memory: logits exist for one chunk of rows; the gradients of hidden states and head weight are made in the forward
pass chunk by chunk. That is the same three matrix products as full logits, so it costs no extra time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from longalign.train.head import backbone_and_head
from longalign.train.router_loss import router_loss_of
from longalign.train.segment_rows import rows_of_segments

IGNORE = -100
CHUNK_ELEMENTS = {"cpu": 2**23, "cuda": 2**27}
"""Logits held at once when `chunk_rows` is None. CPU caches like small chunks; a GPU needs rows to be busy."""


@dataclass
class LossOutput(ModelOutput):  # type: ignore[misc]
    """`loss`: scalar to differentiate. `nll`: detached, shaped like `target_ids`, 0.0 where there is no target.

    A transformers output, because the hooks of DDP and FSDP2 must find the tensors in it.
    """

    loss: Tensor | None = None
    nll: Tensor | None = None


def weighted_nll(
    hidden_TD: Tensor,
    head_weight_VD: Tensor,
    targets_T: Tensor,
    weights_T: Tensor,
    *,
    chunk_rows: int | None = None,
    bias: Tensor | None = None,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of negative log-likelihoods of the targets: `(loss_sum, nll_T)`.

    logits = hidden @ head_weight^T + bias, then softcap * tanh(logits / softcap) if `softcap` is given. Rows whose
    target is -100 are not projected at all. Computes and accumulates in float32 (matrix products of bf16 and fp16
    inputs accumulate in float32), in float64 when the hidden states are. `nll_T` is detached, 0.0 at rows without
    target. Gradients flow to hidden states, head weight and bias, where they require one; a frozen head costs nothing.
    """
    if hidden_TD.ndim != 2 or targets_T.shape != weights_T.shape or targets_T.shape != hidden_TD.shape[:1]:
        raise ValueError(
            f"shapes do not agree: hidden {hidden_TD.shape}, targets {targets_T.shape}, weights {weights_T.shape}"
        )
    device = hidden_TD.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden_TD, head_weight_VD = hidden_TD.to(dtype), head_weight_VD.to(dtype)
    elif hidden_TD.dtype != head_weight_VD.dtype:
        hidden_TD = hidden_TD.to(head_weight_VD.dtype)
    if chunk_rows is None:
        chunk_rows = max(1, CHUNK_ELEMENTS.get(device, CHUNK_ELEMENTS["cuda"]) // head_weight_VD.shape[0])
    rows_R = (targets_T != IGNORE).nonzero().squeeze(1)
    every_row = rows_R.numel() == targets_T.numel()
    hidden_RD = hidden_TD if every_row else hidden_TD.index_select(0, rows_R)
    grad_enabled = torch.is_grad_enabled()
    with torch.autocast(device, enabled=False):
        loss_sum, nll_R = _WeightedNll.apply(  # type: ignore[no-untyped-call]
            hidden_RD, head_weight_VD, bias, targets_T[rows_R], weights_T[rows_R], chunk_rows, softcap, grad_enabled
        )
    if every_row:
        return loss_sum, nll_R
    return loss_sum, nll_R.new_zeros(targets_T.shape).index_copy(0, rows_R, nll_R)


class _WeightedNll(torch.autograd.Function):
    """Forward makes the gradients too: d loss / d logits = weight * (softmax - one-hot), known with the logits."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_RD: Tensor,
        head_VD: Tensor,
        bias_V: Tensor | None,
        targets_R: Tensor,
        weights_R: Tensor,
        chunk_rows: int,
        softcap: float | None,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor]:
        compute = torch.float64 if hidden_RD.dtype == torch.float64 else torch.float32
        wants_hidden, wants_head, wants_bias = (grad_enabled and need for need in ctx.needs_input_grad[:3])
        hidden_dtype, head_dtype = hidden_RD.dtype, head_VD.dtype
        if not head_VD.is_cuda:  # CPU kernels round their sums to half precision, so widen once
            hidden_RD, head_VD = hidden_RD.to(compute), head_VD.to(compute)
        rows, vocabulary = hidden_RD.shape[0], head_VD.shape[0]
        weights_R = weights_R.to(compute)
        nll_R = torch.empty(rows, dtype=compute, device=hidden_RD.device)
        grad_hidden = torch.empty_like(hidden_RD, dtype=compute) if wants_hidden else None
        grad_head = torch.zeros(head_VD.shape, dtype=compute, device=head_VD.device) if wants_head else None
        grad_bias = torch.zeros(vocabulary, dtype=compute, device=head_VD.device) if wants_bias else None
        buffer = torch.empty(min(chunk_rows, rows), vocabulary, dtype=compute, device=hidden_RD.device)

        for start in range(0, rows, chunk_rows):
            part = slice(start, start + chunk_rows)
            hidden, target_c1, weight_c1 = hidden_RD[part], targets_R[part, None], weights_R[part, None]
            logits = _product(hidden, head_VD.t(), buffer[: hidden.shape[0]])
            if bias_V is not None:
                logits += bias_V
            slope = None
            if softcap is not None:
                logits.div_(softcap).tanh_()
                slope = 1 - logits.square() if wants_hidden or wants_head or wants_bias else None
                logits.mul_(softcap)
            logits -= logits.amax(dim=1, keepdim=True)
            at_target_c1 = logits.gather(1, target_c1)
            sums_c1 = logits.exp_().sum(dim=1, keepdim=True)
            nll_R[part] = (sums_c1.log() - at_target_c1).squeeze(1)
            if not (wants_hidden or wants_head or wants_bias):
                continue
            grad_logits = logits.mul_(weight_c1 / sums_c1)
            grad_logits.scatter_add_(1, target_c1, -weight_c1)
            if slope is not None:
                grad_logits *= slope
            if grad_bias is not None:
                grad_bias += grad_logits.sum(dim=0)
            grad_logits = grad_logits.to(head_VD.dtype)  # rounds on CUDA in half precision, as plain autograd does
            if grad_hidden is not None:
                _product(grad_logits, head_VD, grad_hidden[part])
            if grad_head is not None:
                _add_product(grad_head, grad_logits.t(), hidden)

        ctx.save_for_backward(
            None if grad_hidden is None else grad_hidden.to(hidden_dtype),
            None if grad_head is None else grad_head.to(head_dtype),
            None if grad_bias is None or bias_V is None else grad_bias.to(bias_V.dtype),
        )
        ctx.mark_non_differentiable(nll_R)
        return (weights_R * nll_R).sum(), nll_R

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grads = (None if grad is None else grad * grad_loss.to(grad.dtype) for grad in ctx.saved_tensors)
        return (*grads, None, None, None, None, None)


def _product(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """left @ right into `out`; half-precision CUDA inputs accumulate and arrive in float32."""
    if left.dtype == out.dtype:
        return torch.mm(left, right, out=out)
    return cast(Tensor, torch.ops.aten.mm.dtype_out(left, right, out.dtype, out=out))


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, in the precision of `total`."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        torch.ops.aten.addmm.dtype_out(total, left, right, total.dtype, out=total)


def attach_loss(model: nn.Module, *, chunk_rows: int | None = None) -> nn.Module:
    """Give this model the keyword arguments `target_ids` and `loss_weights`; returns the same object.

    The classes of the model and of its head become subclasses of themselves under the same names (as FSDP2 does), so
    saving, generation and PEFT see the model they know. `model` is the bare transformers model, before PEFT wraps it.
    `chunk_rows`: rows of logits held at once, None to choose by device and vocabulary.
    """
    if isinstance(model, _WithLoss):
        return model
    _, head = backbone_and_head(model)  # refuse now rather than at the first step
    head.linear.__class__ = type("Linear", (_LossLinear,), {"__module__": nn.Linear.__module__})
    model.__class__ = type(type(model).__name__, (_WithLoss, type(model)), {"__module__": type(model).__module__})
    cast(Any, model).loss_chunk_rows = chunk_rows
    return model


@contextmanager
def without_loss(model: nn.Module) -> Iterator[None]:
    """The model's own `forward` for a while: generation reads from its signature that one row of logits is enough."""
    if not isinstance(model, _WithLoss):
        yield
        return
    before = model.__dict__.get("forward")
    cast(Any, model).forward = super(_WithLoss, model).forward
    try:
        yield
    finally:
        del model.__dict__["forward"]
        if before is not None:
            cast(Any, model).forward = before


class _WithLoss(nn.Module):
    """Mixed into the model's class in front of it."""

    loss_chunk_rows: int | None
    one_sequence_a_row: bool = False
    """Segments become rows of a batch, for models that cannot keep them apart in one row (`admit.py`)."""

    def forward(
        self, *args: Any, target_ids: Tensor | None = None, loss_weights: Tensor | None = None, **kwargs: Any
    ) -> Any:
        if target_ids is None:
            return super().forward(*args, **kwargs)
        if loss_weights is None:
            raise ValueError("target_ids need loss_weights beside them")
        given = {name: value for name, value in kwargs.items() if value is not None and name != "return_dict"}
        backbone, head = backbone_and_head(self)
        inputs = rows_of_segments(given) if self.one_sequence_a_row else given
        inputs = {name: value for name, value in inputs.items() if name != "segment_lengths"} | {"use_cache": False}
        router = router_loss_of(self) if torch.is_grad_enabled() else None
        output = backbone(*args, **(inputs | ({"output_router_logits": True} if router else {})))
        hidden_BTD = output[0]
        loss, nll_T = head.linear(
            hidden_BTD.flatten(0, 1) * head.scale if head.scale != 1.0 else hidden_BTD.flatten(0, 1),
            targets_T=target_ids.flatten(),
            weights_T=loss_weights.flatten(),
            softcap=head.softcap,
            chunk_rows=self.loss_chunk_rows,
        )
        if router:
            weights_T = loss_weights.flatten() * (target_ids.flatten() != IGNORE)
            loss = loss + router.of(output.router_logits, weights_T, given)
        return LossOutput(loss=loss, nll=nll_T.view(target_ids.shape))


class _LossLinear(nn.Linear):
    """A head that can return the loss in place of logits."""

    def forward(
        self,
        hidden: Tensor,
        targets_T: Tensor | None = None,
        weights_T: Tensor | None = None,
        softcap: float | None = None,
        chunk_rows: int | None = None,
    ) -> Any:
        if targets_T is None or weights_T is None:
            return super().forward(hidden)
        return weighted_nll(
            hidden, self.weight, targets_T, weights_T, bias=self.bias, softcap=softcap, chunk_rows=chunk_rows
        )
