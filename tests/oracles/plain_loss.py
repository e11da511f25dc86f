"""The definition of the loss, one sequence at a time: no packing, no chunks, transformers' own attention and logits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PlainSequence:
    """Token ids of one conversation, which of them are targets, and the weight of each target's nll."""

    ids_T: Tensor
    is_target_T: Tensor
    weight: float


def plain_loss(model: nn.Module, sequences: Sequence[PlainSequence]) -> Tensor:
    """sum_i weight_i sum_{targets t of i} -log p(id_t | ids before t), with SDPA as transformers runs it."""
    total = torch.zeros((), dtype=next(model.parameters()).dtype)
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    for sequence in sequences:
        logits_TV = model(input_ids=sequence.ids_T[None], use_cache=False).logits[0]
        log_p_TV = torch.log_softmax(logits_TV, dim=-1)
        for t in range(1, len(sequence.ids_T)):
            if sequence.is_target_T[t]:
                total = total - sequence.weight * log_p_TV[t - 1, sequence.ids_T[t]]
    model.set_attn_implementation(before)
    return total


def plain_router_loss(model: nn.Module, sequences: Sequence[PlainSequence], coefficient: float) -> Tensor:
    """The plain loss, and transformers' own balance loss of each sequence's experts, weighted as its targets are."""
    total = plain_loss(model, sequences)
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    for sequence in sequences:
        share = sequence.weight * int(sequence.is_target_T[1:].sum())
        if share:
            output = model(input_ids=sequence.ids_T[None], use_cache=False, output_router_logits=True)
            total = total + share * coefficient * output.aux_loss
    model.set_attn_implementation(before)
    return total


def plain_gradients(model: nn.Module, sequences: Sequence[PlainSequence]) -> tuple[Tensor, dict[str, Tensor]]:
    """The plain loss and its gradient by parameter name; leaves the model without gradients."""
    return loss_and_gradients(model, lambda: plain_loss(model, sequences))


def loss_and_gradients(model: nn.Module, loss_of: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """What `loss_of` gives and its gradient by parameter name; leaves the model without gradients."""
    model.zero_grad(set_to_none=True)
    loss = loss_of()
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return loss.detach(), gradients


def relative_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest |found - expected| over all parameters, relative to the norm of each parameter's gradient."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    return max(float((found[n] - g).norm() / g.norm().clamp_min(1e-30)) for n, g in expected.items())
