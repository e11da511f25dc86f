"""Work of a sequence: what one training token costs, and what attention adds with length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class SequenceCost:
    """FLOPs of one sequence, forward and backward: `linear * L + quadratic * pairs(L)` over attention layers.

    linear: FLOPs a token (matrices); quadratic: FLOPs a (query, key) pair of full causal attention, all layers;
    windowed: the same for layers with a sliding window of `attention_window` tokens.
    A causal sequence of L tokens has L^2 / 2 pairs; a window W leaves W * L - W^2 / 2 of them when L > W.
    """

    linear: float
    quadratic: float
    windowed: float = 0.0
    attention_window: int = 0

    def flops(self, length_tokens: ArrayLike) -> NDArray[np.float64]:
        """FLOPs of sequences of the given lengths (tokens); keeps the shape."""
        length = np.asarray(length_tokens, dtype=np.float64)
        flops = length * (self.linear + 0.5 * self.quadratic * length)
        if self.windowed:
            seen = np.minimum(length, self.attention_window)
            flops += self.windowed * seen * (length - 0.5 * seen)
        return flops


# Llama-2-7B, trained in full: 6 FLOPs for each of 6.476e9 layer weights a token, and 4 * hidden forward FLOPs a pair
# and layer, times 3 for forward and backward. Only the ratio of the two decides a plan.
LLAMA_7B_COST = SequenceCost(linear=6 * 6.476e9, quadratic=12.0 * 32 * 4096)
