"""How a plan affects learning: each group's share of the gradient, and whether steps are fair samples of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longalign.core.order import IntArray
from longalign.core.step_plan import StepPlan
from longalign.core.weighting import WEIGHTINGS

FloatArray = NDArray[np.float64]


def gradient_shares(plan: StepPlan, group_N: IntArray, groups: int) -> Mapping[str, FloatArray]:
    """Share of the loss (and so of the gradient, at equal loss a target) that each group of rows has, mean over steps.

    group_N: group of each row, 0..groups-1. Keys: the names of `WEIGHTINGS`; those that depend on packs only where
    microbatches are packs. Steps without targets are left out; each value sums to 1.
    """
    targets_X = plan.targets_N[plan.rows_X].astype(np.float64)
    group_X = group_N[plan.rows_X]
    pack_X = np.repeat(np.arange(plan.pack_count), np.diff(plan.pack_rows_P1))
    sizes_S = np.diff(plan.step_rows_S1)
    found = {}
    for mode, weighting in WEIGHTINGS.items():
        if weighting.by_pack and plan.layout != "packed":
            continue
        share_X = weighting.shares(targets_X, pack_X)
        total_S = np.add.reduceat(share_X, plan.step_rows_S1[:-1])
        weight_X = share_X / np.repeat(np.where(total_S > 0, total_S, 1.0), sizes_S)
        share = np.bincount(group_X, weights=weight_X, minlength=groups)
        found[mode] = share / max(share.sum(), 1e-300)
    return found


@dataclass(frozen=True, kw_only=True)
class LengthBias:
    """How far steps are from random samples in length.

    variance_ratio: variance over steps of the mean length of a step's sequences, over what random steps of these
        sizes have; 1 for a fair plan, about the sequences a step when steps hold equal lengths.
    standard_error: of the ratio of a fair plan, sqrt(2 / (steps - 1)).
    within_step_correlation: of the lengths of two sequences of one step (intraclass correlation); 0 when fair.
    """

    variance_ratio: float
    standard_error: float
    within_step_correlation: float


def length_bias(plan: StepPlan) -> LengthBias | None:
    """The length bias of a plan; None where lengths or steps do not vary."""
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
    return LengthBias(
        variance_ratio=between / expected if expected else 1.0,
        standard_error=float(np.sqrt(2.0 / (steps - 1))),
        within_step_correlation=(mean_between - mean_within) / (mean_between + (size - 1) * mean_within),
    )
