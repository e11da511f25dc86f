"""How long the steps of a plan take on a machine, and where the time of the ranks goes.

A model, not a measurement: FLOPs over a reached rate, bytes over a bandwidth. Ulysses' all-to-alls and activations
on their way to the host and back make compute wait and are counted in full; gathering and scattering of sharded
weights, over the network and from the host, runs beside the compute of a microbatch and counts only as far as it is
longer. The optimizer's update counts where it runs on the host. `compare_degrees` chooses how many ranks share a
microbatch: the sequence-parallel degree with the shortest steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longalign.core.hardware import Execution, Machine
from longalign.core.memory import gathered_bytes, largest_microbatch, trained_parameters
from longalign.core.model_shape import ModelShape, SequenceCost
from longalign.core.order import RowArray, ranges, shuffled
from longalign.core.step_plan import StepPlan
from longalign.errors import PlanError

FloatArray = NDArray[np.float64]
GRADIENT_BYTES = 4  # reduced in float32; weights and activations travel in the precision of compute
UPDATE_BYTES = 28  # AdamW reads weight, gradient and two moments and writes all but the gradient, float32


@dataclass(frozen=True)
class PlanTime:
    """Seconds of each step, and how the rank-seconds (ranks x step time) of the plan are spent; shares add up to 1.

    useful: work on real tokens; padding: work on pad tokens; communication: waiting for data; idle: waiting for
    other ranks. idle_by_sync: idle share if ranks met in every microbatch, and if they met only once a step.
    """

    step_s_S: FloatArray
    flops: float
    useful: float
    padding: float
    communication: float
    idle: float
    idle_by_sync: dict[str, float]

    @property
    def total_s(self) -> float:
        return float(self.step_s_S.sum())


def pack_flops(plan: StepPlan, cost: SequenceCost) -> tuple[FloatArray, FloatArray]:
    """(FLOPs run, FLOPs on real tokens) of each microbatch; a padded one runs all its rows at the longest length."""
    lengths_X = plan.lengths_N[plan.rows_X]
    starts = plan.pack_rows_P1[:-1]
    useful_P = np.add.reduceat(cost.flops(lengths_X), starts)
    if plan.layout == "packed":
        return useful_P, useful_P
    longest_P = np.maximum.reduceat(lengths_X, starts)
    return cost.flops(longest_P) * np.diff(plan.pack_rows_P1), useful_P


def pack_tokens(plan: StepPlan) -> NDArray[np.int64]:
    """Token slots of each microbatch, pads included."""
    lengths_X = plan.lengths_N[plan.rows_X]
    starts = plan.pack_rows_P1[:-1]
    if plan.layout == "packed":
        return np.add.reduceat(lengths_X, starts, dtype=np.int64)
    return np.maximum.reduceat(lengths_X, starts).astype(np.int64) * np.diff(plan.pack_rows_P1)


def plan_time(plan: StepPlan, shape: ModelShape, machine: Machine, execution: Execution) -> PlanTime:
    """Time every step of `plan`. All steps must have the plan's current rank count (replan from step 0)."""
    sp, data_ranks = plan.rules.sequence_parallel, plan.data_ranks
    run_P, useful_P = pack_flops(plan, shape.sequence_cost(frozen_weights=execution.lora_rank is not None))
    rate = machine.peak_flops * machine.efficiency / ((4 / 3) if execution.gradient_checkpointing else 1.0)
    compute_P = run_P / (sp * rate)
    if execution.mlp_tile_tokens and shape.experts == 1:  # tiles pass the MLP forward once more
        again = 2.0 * shape.layers * 3 * shape.hidden * shape.intermediate
        compute_P = compute_P + pack_tokens(plan) * again / (sp * machine.peak_flops * machine.efficiency)
    exchange_P = pack_tokens(plan) * _exchange_s_per_token(shape, machine, execution, sp, plan.ranks)

    # [rounds, slots] matrices: slot = (step, data rank); absent microbatches take no time
    packs_R = np.diff(plan.rank_packs_R1)
    if len(packs_R) != len(plan) * data_ranks:
        raise ValueError("plan_time needs one rank count for all steps")
    slot_P = np.repeat(np.arange(len(packs_R)), packs_R)
    round_P = ranges(np.zeros_like(packs_R), packs_R)
    compute_MSG = np.zeros((int(packs_R.max()), len(plan), data_ranks))
    compute_MSG.reshape(len(compute_MSG), -1)[round_P, slot_P] = compute_P
    busy_MSG = compute_MSG.copy()
    busy_MSG.reshape(len(busy_MSG), -1)[round_P, slot_P] += exchange_P

    element_s = (plan.ranks - 1) / plan.ranks / machine.bandwidth(plan.ranks)  # for a byte an element
    trained = trained_parameters(shape, execution)
    offloaded = execution.cpu_offload and execution.sharded(plan.ranks)
    round_s_MS = busy_MSG.max(2)
    by_round_S, by_step_S = round_s_MS.sum(0), busy_MSG.sum(0).max(1)
    if execution.sync == "microbatch":  # gathered for forward and for backward, gradients scattered
        link_s = _host_link_s(shape, machine, execution, trained, plan.ranks) if offloaded else 0.0
        gathered_s = 2.0 * gathered_bytes(shape, execution) * element_s
        moved_MS = np.where(round_s_MS > 0, gathered_s + GRADIENT_BYTES * trained * element_s + link_s, 0.0)
        exposed_S = np.maximum(moved_MS - compute_MSG.max(2), 0.0).sum(0)
        step_s_S = by_round_S + exposed_S
    else:  # one all-reduce of the gradients, beside the backward pass of the last microbatch
        reduced_s = 2.0 * GRADIENT_BYTES * trained * element_s
        exposed_S = np.maximum(reduced_s - compute_MSG[0].max(1) * 2 / 3, 0.0)
        step_s_S = by_step_S + exposed_S
    if offloaded:
        update_s = UPDATE_BYTES * trained / plan.ranks / machine.host_memory_bandwidth
        exposed_S, step_s_S = exposed_S + update_s, step_s_S + update_s

    spent = float(step_s_S.sum()) * data_ranks
    compute, useful = float(compute_P.sum()), float(compute_P.sum() * useful_P.sum() / run_P.sum())
    busy = float(busy_MSG.sum())
    waiting = busy - compute + float(exposed_S.sum()) * data_ranks
    return PlanTime(
        step_s_S=step_s_S,
        flops=float(useful_P.sum()),
        useful=useful / spent,
        padding=max(compute - useful, 0.0) / spent,
        communication=max(waiting, 0.0) / spent,
        idle=max(1.0 - (compute + waiting) / spent, 0.0),
        idle_by_sync={
            "microbatch": max(1.0 - busy / (float(by_round_S.sum()) * data_ranks), 0.0),
            "step": max(1.0 - busy / (float(by_step_S.sum()) * data_ranks), 0.0),
        },
    )


def _host_link_s(shape: ModelShape, machine: Machine, execution: Execution, trained: int, ranks: int) -> float:
    """Seconds that a rank's share of the weights needs from the host, forward and backward, and its gradients back.

    They travel as they are stored: float32 where they train, else in the precision of compute.
    """
    stored = 4 * shape.parameters if execution.lora_rank is None else execution.compute_bytes * shape.parameters
    return (2.0 * stored + 4.0 * trained) / ranks / machine.host_link


def _exchange_s_per_token(shape: ModelShape, machine: Machine, execution: Execution, sp: int, ranks: int) -> float:
    """Seconds a microbatch token costs in data that compute waits for.

    Ulysses' all-to-alls: queries, keys, values in, attention out, each layer; again in the recomputation and in the
    backward pass. Key heads fewer than `sp` are repeated up to it. Offloaded activations: each layer's input, out to
    the host and back.
    """
    seconds = 0.0
    if sp > 1:
        kv_width = max(shape.kv_heads, sp) * shape.head_dim
        passes = 3 if execution.gradient_checkpointing else 2
        sent = shape.layers * passes * 2 * (shape.attention_width + kv_width) * execution.compute_bytes * (sp - 1) / sp
        seconds += sent / sp / machine.bandwidth(sp)
    if execution.activation_offload and execution.gradient_checkpointing:
        seconds += 2 * shape.layers * shape.hidden * execution.stream_bytes(ranks) / sp / machine.host_link
    return seconds


DEGREES = (1, 2, 4, 8, 16, 32, 64)
SAMPLED_STEPS = 256


@dataclass(frozen=True)
class LayoutOption:
    """One degree, tried on a sample of steps. `reason` says why it cannot be used (then `time` is None).

    fits: whether the memory estimate for microbatches of `token_limit` tokens a rank stays inside the machine.
    """

    degree: int
    ranks: int
    token_limit: int
    time: PlanTime | None
    fits: bool = False
    reason: str | None = None

    @property
    def name(self) -> str:
        return layout_name(self.ranks, self.degree)


def layout_name(ranks: int, degree: int) -> str:
    """`dp8` or `sp2xdp4`."""
    return f"dp{ranks}" if degree == 1 else f"sp{degree}xdp{ranks // degree}"


def compare_degrees(
    lengths: RowArray,
    plan_sample: Callable[[RowArray, int, int], StepPlan],
    *,
    shape: ModelShape, machine: Machine, execution: Execution,
    ranks: int, sequences_per_step: int, window: int, token_limit: int | None = None,
    degrees: Sequence[int] = DEGREES, seed: int = 0,
) -> Sequence[LayoutOption]:  # fmt: skip
    """The degrees with their time on up to 256 random steps: those that fit first, among them the shortest first.

    plan_sample(lengths, degree, token_limit) plans the sampled rows. A degree must divide the ranks and the attention
    heads and stay inside a node. Without a `token_limit` it is the window, or what memory leaves if that is less and
    the group of ranks still holds the longest sequence. Raises PlanError when no degree is usable.
    """
    sample = lengths[shuffled(len(lengths), seed, 7)[: SAMPLED_STEPS * sequences_per_step]]
    longest = sample[0] = int(lengths.max())
    room = largest_microbatch(shape, execution, machine, ranks=ranks)
    options = []
    for degree in degrees:
        reason = None
        limit = token_limit or (min(window, room) if room * degree >= longest else window)
        if degree > ranks or ranks % degree:
            reason = f"{ranks} ranks cannot be split into groups of {degree}"
        elif shape.heads % degree:
            reason = f"{shape.heads} heads cannot be split {degree} ways"
        elif degree > machine.ranks_per_node and len(degrees) > 1:
            reason = f"the group leaves its node of {machine.ranks_per_node} ranks"
        elif limit * degree < longest:
            reason = f"{longest} tokens exceed the limit of {limit} on each of {degree} ranks"
        if reason:
            options.append(LayoutOption(degree, ranks, limit, None, reason=reason))
        else:
            time = plan_time(plan_sample(sample, degree, limit), shape, machine, execution)
            options.append(LayoutOption(degree, ranks, limit, time, fits=limit <= room))
    if not any(option.time for option in options):
        raise PlanError("layout: " + "; ".join(f"{option.name}: {option.reason}" for option in options))
    options.sort(key=lambda option: (not option.fits, option.time.total_s if option.time else np.inf))
    return options
