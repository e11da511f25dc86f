"""Rotary position encoding: ways to stretch it to a longer window, and what a stretched encoding covers.

RoPE turns pair i of a head's R rotary dimensions by `position * frequency_i`, with frequency_i = base^(-2i/R), so the
pair's wavelength is 2 pi base^(2i/R) tokens. A model knows a pair's angles up to those it met in training: pairs whose
wavelength fits into the trained window met all of them, slower pairs only a part. A longer window is safe where
angles stay within what was met; elsewhere continued training has to teach them.

| method   | what changes                                                 | source                                   |
|----------|--------------------------------------------------------------|------------------------------------------|
| `base`   | base x factor (LongAlign: x 200)                             | LongAlign section 4.1, arXiv 2401.18058  |
| `auto`   | smallest sufficient base for the window, see `sufficient_base` | arXiv 2405.14591, section 4            |
| `ntk`    | base x s^(R/(R-2)): the slowest pair stretches by s          | "NTK-aware" scaling; arXiv 2309.00071 3.1 |
| `linear` | every frequency / s                                          | arXiv 2306.15595                         |
| `yarn`   | slow pairs / s, fast pairs kept, attention temperature       | arXiv 2309.00071                         |
| `llama3` | slow pairs / s, fast pairs kept, smooth between              | arXiv 2407.21783 and its released code   |

s = window / trained window unless a factor is given. Parameters are those of transformers 5 (`rope_parameters`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("base", "auto", "ntk", "linear", "yarn", "llama3")


@dataclass(frozen=True)
class StretchedRope:
    """`parameters`: the new `rope_parameters`. `reason`: one sentence for people."""

    parameters: dict[str, Any]
    reason: str


def stretch(
    parameters: Mapping[str, Any],
    *,
    method: str,
    rotary_dim: int,
    trained_window: int,
    window: int,
    base_factor: float = 200.0,
    factor: float | None = None,
) -> StretchedRope:
    """New `rope_parameters` for `window` tokens from those of a model trained on `trained_window` tokens.

    `base`, `auto` and `ntk` change only `rope_theta` and keep any scaling the model has. The others set a scaling of
    their own and raise ValueError when the model already has one, since the two would not compose.
    """
    base = float(parameters["rope_theta"])
    kind = str(parameters.get("rope_type", "default"))
    ratio = window / trained_window if factor is None else factor
    if ratio < 1:
        raise ValueError(
            f"the window ({window}) is shorter than the trained one ({trained_window}); nothing to stretch"
        )
    if method == "base":
        return _with_base(parameters, base * base_factor, f"RoPE base {base:,.0f} x {base_factor:g}")
    if method == "auto":
        needed = sufficient_base(rotary_dim, window)
        reason = (
            f"RoPE base {base:,.0f} already suffices for {window:,} tokens"
            if base >= needed
            else f"RoPE base {base:,.0f} -> {needed:,.0f}: the smallest at which a query still prefers similar keys "
            f"to random ones at every distance up to {window:,} tokens"
        )
        return _with_base(parameters, max(base, needed), reason)
    if method == "ntk":
        power = rotary_dim / (rotary_dim - 2)
        return _with_base(
            parameters,
            base * ratio**power,
            f"NTK-aware: RoPE base {base:,.0f} x {ratio:g}^{power:.3f}; the slowest pair stretches by {ratio:g}",
        )
    if method not in METHODS:
        raise ValueError(f"unknown RoPE method {method!r}; choose one of {', '.join(METHODS)}")
    if kind != "default":
        raise ValueError(f"the model already scales RoPE ({kind}); use method `base`, `auto` or `ntk`")
    scaled: dict[str, Any] = {**parameters, "rope_type": method, "factor": float(ratio)}
    if method == "linear":
        return StretchedRope(scaled, f"linear: every RoPE frequency / {ratio:g}")
    scaled["original_max_position_embeddings"] = trained_window
    if method == "yarn":
        return StretchedRope(
            scaled,
            f"YaRN x {ratio:g}: pairs with fewer than 1 turn in {trained_window:,} tokens slow down by {ratio:g}, "
            f"pairs with more than 32 keep their speed; attention scores x {yarn_attention_factor(ratio) ** 2:.3f}",
        )
    scaled |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return StretchedRope(
        scaled,
        f"Llama-3 style x {ratio:g}: pairs with fewer than 1 turn in {trained_window:,} tokens slow down by {ratio:g}, "
        "pairs with more than 4 keep their speed",
    )


def _with_base(parameters: Mapping[str, Any], base: float, reason: str) -> StretchedRope:
    return StretchedRope({**parameters, "rope_theta": float(base)}, reason)


def yarn_attention_factor(ratio: float) -> float:
    """Factor on cosine and sine, so its square is on attention scores (arXiv 2309.00071, Eq. 22)."""
    return 1.0 if ratio <= 1 else 0.1 * math.log(ratio) + 1.0


def frequencies(parameters: Mapping[str, Any], rotary_dim: int) -> NDArray[np.float64]:
    """Radians per token of each of the R/2 pairs, fastest first, for the `rope_type`s this module makes.

    Raises ValueError for types whose frequencies depend on the length of the input (`dynamic`, `longrope`).
    """
    pairs = np.arange(0, rotary_dim, 2, dtype=np.float64)
    plain = float(parameters["rope_theta"]) ** (-pairs / rotary_dim)
    kind = parameters.get("rope_type", "default")
    if kind == "default":
        return plain
    if kind == "linear":
        return plain / float(parameters["factor"])
    if kind not in ("yarn", "llama3"):
        raise ValueError(f"rope_type {kind!r} has no fixed frequencies that are known here")
    ratio = float(parameters["factor"])
    turns = float(parameters["original_max_position_embeddings"]) * plain / (2 * math.pi)
    if kind == "llama3":
        low, high = float(parameters["low_freq_factor"]), float(parameters["high_freq_factor"])
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    else:
        kept = 1.0 - _yarn_ramp(parameters, rotary_dim)
    return np.asarray(kept * plain + (1.0 - kept) * plain / ratio, dtype=np.float64)


def _yarn_ramp(parameters: Mapping[str, Any], rotary_dim: int) -> NDArray[np.float64]:
    """0 where a pair keeps its speed, 1 where it is slowed fully, linear in the pair's index between (Eq. 17-18)."""
    base, trained = float(parameters["rope_theta"]), float(parameters["original_max_position_embeddings"])

    def index_of(turns: float) -> float:
        return rotary_dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = index_of(parameters.get("beta_fast") or 32.0), index_of(parameters.get("beta_slow") or 1.0)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    return np.clip((np.arange(rotary_dim // 2) - low) / max(high - low, 1e-3), 0.0, 1.0)


def wavelengths_tokens(parameters: Mapping[str, Any], rotary_dim: int) -> NDArray[np.float64]:
    """Tokens per full turn of each pair, shortest first."""
    return 2 * math.pi / frequencies(parameters, rotary_dim)


def sufficient_base(rotary_dim: int, window: int) -> float:
    """Smallest base (two digits) whose similarity score stays positive over the window.

    At distance m the expected difference between the attention score of a similar key and of a random key is
    proportional to sum_i cos(m base^(-2i/R)) (arXiv 2405.14591, Theorem 1). Below the base returned here the sum is
    negative at some distance within the window: there a model cannot tell the right key. Found by trying bases of
    two digits upwards from 100; 2.1 million for R = 128 and 65,536 tokens, beside the 2 million of LongAlign.
    """
    block = 4096
    starts = list(range(0, window, block))
    for base in (mantissa * 10.0**exponent for exponent in range(1, 12) for mantissa in range(10, 100)):
        frequency = (base ** (-np.arange(0, rotary_dim, 2, dtype=np.float64) / rotary_dim)).astype(np.float32)
        for index, start in enumerate(starts):
            distance = np.arange(start, min(start + block, window), dtype=np.float32)
            if np.cos(distance[:, None] * frequency).sum(axis=1).min() < 0:
                starts.insert(0, starts.pop(index))  # the next base most likely fails here too: look there first
                break
        else:
            return base
    raise ValueError(f"no RoPE base up to 10^13 suffices for {window:,} tokens with {rotary_dim} rotary dimensions")


@dataclass(frozen=True)
class Coverage:
    """How the pairs of a head meet a new window, given what they met in the trained one. Counts of pairs."""

    pairs: int
    full_turn: int
    within_met_angles: int
    unmet_angles: int
    longest_wavelength_tokens: float
    largest_unmet_turns: float

    def lines(self) -> list[str]:
        """For people."""
        text = [
            f"{self.full_turn} of {self.pairs} pairs made a full turn within the trained window: every angle is known",
            f"{self.within_met_angles} slower pairs stay within the angles met in training",
            f"{self.unmet_angles} pairs meet new angles"
            + (
                f" (up to {self.largest_unmet_turns:.2f} turns): training has to teach them"
                if self.unmet_angles
                else ""
            ),
        ]
        return [*text, f"slowest pair: {self.longest_wavelength_tokens:,.0f} tokens a turn"]


def coverage(
    old: Mapping[str, Any], new: Mapping[str, Any], *, rotary_dim: int, trained_window: int, window: int
) -> Coverage:
    """Compare the angles of `window` tokens under `new` parameters with those of training under `old`."""
    met_turns = trained_window * frequencies(old, rotary_dim) / (2 * math.pi)
    new_turns = window * frequencies(new, rotary_dim) / (2 * math.pi)
    full = met_turns >= 1.0
    within = ~full & (new_turns <= met_turns * (1 + 1e-9))
    unmet = ~full & ~within
    return Coverage(
        pairs=int(full.size),
        full_turn=int(full.sum()),
        within_met_angles=int(within.sum()),
        unmet_angles=int(unmet.sum()),
        longest_wavelength_tokens=float(wavelengths_tokens(new, rotary_dim).max()),
        largest_unmet_turns=float(new_turns[unmet].max()) if unmet.any() else 0.0,
    )
