"""The balance loss of a mixture of experts (Switch Transformer, arXiv 2101.03961), defined so that no layout matters.

transformers takes expert counts and mean router probabilities over all tokens of a batch, so that its value depends on
what happens to be in the batch. Here each sequence has a balance loss of its own, that formula over its tokens alone:

    aux_i = E * sum_e f_ie * P_ie

E experts; f_ie: experts e chosen per token, P_ie: mean probability of e, both over the tokens of sequence i and all
layers. A step's loss is sum_i share_i * (nll part_i + router_aux_loss_coef * aux_i), where share_i is the sum of the
loss weights of i's targets: 1 / M under Eq. 2. One sequence by itself has exactly transformers' value.

It is on where the model's config has `output_router_logits: true` and a coefficient above zero, as in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longalign.errors import ModelError

COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef")


@dataclass(frozen=True)
class RouterLoss:
    """What the model's config asks for."""

    coefficient: float
    experts: int
    experts_per_token: int

    def of(
        self,
        router_logits: Sequence[Tensor],
        weights_T: Tensor,
        inputs: Mapping[str, Any],
    ) -> Tensor:
        """The weighted sum over the sequences of one microbatch: a scalar to add to the loss.

        `router_logits`: one [T, E] a layer. `weights_T`: loss weight of each target, 0 elsewhere. `inputs` are the
        model's: segment boundaries, `segment_lengths` where segments end in padding, and `sequence_parallel`, with
        which every rank adds the part of its own tokens.
        """
        tokens, device = weights_T.numel(), weights_T.device
        bounds_S1: Tensor | None = inputs.get("cu_seq_lens_q")
        if bounds_S1 is None:
            rows = cast(Tensor, inputs["input_ids"]).shape[0]
            bounds_S1 = torch.arange(rows + 1, device=device) * (tokens // rows)
        lengths_S = inputs.get("segment_lengths")
        lengths_S = bounds_S1.diff() if lengths_S is None else lengths_S
        group = inputs.get("sequence_parallel")
        place_T = torch.arange(tokens, device=device) + (group.rank * tokens if group else 0)
        segment_T = torch.bucketize(place_T, bounds_S1[1:].to(place_T.dtype), right=True)
        real_T = place_T - bounds_S1[segment_T] < lengths_S[segment_T]

        compute = torch.float64 if router_logits[0].dtype == torch.float64 else torch.float32
        shape = (lengths_S.numel(), self.experts)
        chosen_SE = torch.zeros(shape, dtype=compute, device=device)
        probability_SE = torch.zeros(shape, dtype=compute, device=device)
        for logits_TE in router_logits:
            probability_TE = logits_TE.to(compute).softmax(-1)
            top_TK = probability_TE.topk(self.experts_per_token, dim=-1).indices
            chosen_TE = torch.zeros_like(probability_TE).scatter_(1, top_TK, 1.0) * real_T[:, None]
            chosen_SE.index_add_(0, segment_T, chosen_TE)
            probability_SE = probability_SE.index_add(0, segment_T, probability_TE * real_T[:, None])
        share_S = torch.zeros(shape[0], dtype=compute, device=device)
        share_S.index_add_(0, segment_T, weights_T.to(compute))
        if group:  # the derivative is through the probabilities alone, which enter as a sum over tokens
            dist.all_reduce(chosen_SE, group=group.group)
            dist.all_reduce(share_S, group=group.group)
        counted_S1 = (lengths_S * len(router_logits)).clamp_min(1)[:, None]
        aux_S = self.experts * (chosen_SE / counted_S1 * (probability_SE / counted_S1)).sum(1)
        return self.coefficient * (share_S * aux_S).sum()


def router_loss_of(model: Any) -> RouterLoss | None:
    """The balance loss that this model's config asks for; None where it asks for none."""
    config = model.config.get_text_config()
    coefficient = _coefficient(config)
    if not coefficient or not getattr(config, "output_router_logits", False):
        return None
    sizes = []
    for names in (
        ("num_experts", "num_local_experts", "n_routed_experts"),
        ("num_experts_per_tok", "moe_k", "top_k"),
    ):
        places = [(place, name) for place in (model, config) for name in names]
        found = next((getattr(place, name) for place, name in places if getattr(place, name, None)), None)
        if found is None:
            raise ModelError(
                f"{config.model_type} models: cannot tell how many experts the router loss is over; set "
                "output_router_logits to false in config.json to train without it"
            )
        sizes.append(int(found))
    return RouterLoss(float(coefficient), sizes[0], sizes[1])


def router_notes(model: nn.Module) -> tuple[str, ...]:
    """What is, or is not, done to balance the experts of this model, one line each; nothing for dense models."""
    plain: Any = model
    config = plain.config.get_text_config()
    asked, coefficient = router_loss_of(plain), _coefficient(config)
    lines = []
    if asked:
        lines.append(f"balance loss of each sequence, weighted {asked.coefficient:g} (router_aux_loss_coef)")
    elif coefficient is not None and hasattr(config, "output_router_logits"):
        lines.append(
            "no balance loss is trained, as transformers has it by default: output_router_logits is false in "
            f"config.json (router_aux_loss_coef {coefficient:g})"
        )
    if any(name.endswith("e_score_correction_bias") for name in plain.state_dict()):
        lines.append("biases that balance the experts (e_score_correction_bias) stay as they are")
    return tuple(lines)


def _coefficient(config: Any) -> float | None:
    return next((getattr(config, name) for name in COEFFICIENTS if getattr(config, name, None) is not None), None)
