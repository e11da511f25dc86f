"""Sampling as greedy choice under noise, so that a reply depends on its request's seed and not on its batch."""

from __future__ import annotations

import torch
from transformers import LogitsProcessor

from longalign.llm.base import Request


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """argmax(logits / temperature + Gumbel noise) is a draw from the softmax; one noise stream per request."""

    def __init__(self, requests: list[Request], device: torch.device) -> None:
        self.top_ps = [1.0 if r.top_p is None else r.top_p for r in requests]
        self.temperatures_B1 = torch.tensor([[r.temperature] for r in requests], device=device)
        self.generators = [torch.Generator().manual_seed(r.seed or 0) for r in requests]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        uniform_BV = torch.stack(
            [torch.rand(scores.shape[1], generator=g, dtype=torch.float64) for g in self.generators]
        )
        noise_BV = -torch.log(-torch.log(uniform_BV.clamp(1e-300, 1 - 1e-16))).to(scores)
        warm_BV = scores / self.temperatures_B1.clamp_min(1e-6).to(scores)
        for row, top_p in enumerate(self.top_ps):
            if top_p < 1:
                warm_BV[row] = nucleus(warm_BV[row], top_p)
        return torch.where(self.temperatures_B1 > 0, warm_BV + noise_BV, scores)


def nucleus(logits_V: torch.Tensor, top_p: float) -> torch.Tensor:
    """Logits with all but the likeliest tokens at minus infinity: the fewest whose probabilities reach `top_p`."""
    ordered_V, places_V = logits_V.sort(descending=True)
    probabilities_V = ordered_V.double().softmax(0)
    ordered_V = ordered_V.masked_fill(probabilities_V.cumsum(0) - probabilities_V >= top_p, float("-inf"))
    return torch.empty_like(logits_V).scatter_(0, places_V, ordered_V)
