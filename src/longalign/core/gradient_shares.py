"""What a plan does to learning: whose gradient it is, and whether steps are fair samples of the data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from longalign.core.order import IntArray, RowArray
from longalign.core.step_plan import StepPlan

FloatArray = NDArray[np.float64]


def length_bands(lengths: RowArray, window: int, bands: int = 8) -> tuple[IntArray, list[str]]:
    """Band of each length and the bands' names: halves of the window, down to a last band of all that is shorter."""
    edges = [max(window >> k, 1) for k in range(bands - 1, 0, -1)]
    edges = sorted(set(edges))
    names = [f"< {_short(edges[0])}"]
    names += [f"{_short(low)}-{_short(high)}" for low, high in zip(edges, [*edges[1:], window], strict=True)]
    return np.searchsorted(np.array(edges), lengths, side="right").astype(np.int64), names


def _short(tokens: int) -> str:
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)


def gradient_shares(plan: StepPlan, group_N: IntArray, groups: int) -> Mapping[str, FloatArray]:
    """Share of the loss (and so of the gradient, at equal loss a target) that each group of rows has, mean over steps.

    group_N: group of each row, 0..groups-1. Keys: the weighting modes, `plain_packing` (Eq. 3) for packed layouts only.
    Steps without targets are left out; each value sums to 1.
    """
    targets_X = plan.targets_N[plan.rows_X].astype(np.float64)
    group_X = group_N[plan.rows_X]
    sizes_S = np.diff(plan.step_rows_S1)
    masses = {
        "sequence": (targets_X > 0).astype(np.float64),
        "token": targets_X,
        "sqrt": np.sqrt(targets_X),
    }
    if plan.layout == "packed":
        pack_sizes = np.diff(plan.pack_rows_P1)
        pack_targets_P = np.add.reduceat(targets_X, plan.pack_rows_P1[:-1])
        masses["plain_packing"] = targets_X / np.repeat(np.maximum(pack_targets_P, 1.0), pack_sizes)
    shares = {}
    for mode, mass_X in masses.items():
        total_S = np.add.reduceat(mass_X, plan.step_rows_S1[:-1])
        weight_X = mass_X / np.repeat(np.where(total_S > 0, total_S, 1.0), sizes_S)
        share = np.bincount(group_X, weights=weight_X, minlength=groups)
        shares[mode] = share / max(share.sum(), 1e-300)
    return shares


def length_bias(plan: StepPlan) -> dict[str, float] | None:
    """How far steps are from random samples in length; None where lengths or steps do not vary.

    variance_ratio: variance over steps of the mean length of a step's sequences, over what random steps of these
        sizes have; 1 for a fair plan, about the sequences a step when steps hold equal lengths.
    standard_error: of the ratio of a fair plan, sqrt(2 / (steps - 1)).
    within_step_correlation: of the lengths of two sequences of one step (intraclass correlation); 0 when fair.
    """
    sizes_S = np.diff(plan.step_rows_S1).astype(np.float64)
    lengths = plan.lengths_N.astype(np.float64)
    steps, rows = len(sizes_S), float(sizes_S.sum())
    variance = float(lengths.var())
    if steps < 2 or variance == 0.0 or rows <= steps:
        return None
    sums_S = np.add.reduceat(lengths[plan.rows_X], plan.step_rows_S1[:-1])
    mean = float(lengths.mean())
    between = float((sizes_S * (sums_S / sizes_S - mean) ** 2).sum())
    population = len(lengths)  # each epoch draws without replacement
    expected = variance * float((1.0 - (sizes_S - 1) / max(population - 1, 1)).sum())
    within = variance * rows - between
    mean_between, mean_within = between / (steps - 1), within / (rows - steps)
    size = rows / steps
    return {
        "variance_ratio": between / expected if expected else 1.0,
        "standard_error": float(np.sqrt(2.0 / (steps - 1))),
        "within_step_correlation": (mean_between - mean_within) / (mean_between + (size - 1) * mean_within),
    }
