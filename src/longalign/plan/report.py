"""The verb `plan`: everything about a training run that is known before its first step.

Lengths go in. Out come the steps, how full packs are, how busy ranks are, time and memory, and each length's share of
the gradient.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from longalign.base.files import atomic_write_json, atomic_write_text, make_folder
from longalign.config import PlanSettings
from longalign.config.plan import execution, microbatch_tokens, step_arguments
from longalign.core.batching import plan_steps
from longalign.core.gradient_shares import gradient_shares, length_bias
from longalign.core.hardware import MACHINES, Execution, Machine
from longalign.core.length_bands import bands_of_window
from longalign.core.model_shape import ModelShape
from longalign.core.order import IntArray
from longalign.core.packing import fewest_packs
from longalign.core.step_plan import StepPlan
from longalign.core.strategies import strategy_of
from longalign.core.timing import DEGREES, LayoutOption, PlanTime, compare_degrees, layout_name, pack_tokens, plan_time
from longalign.errors import ConfigError
from longalign.plan.figures import GroupShare, Packs, PlanReport, RankTime, Rows, StepSeconds, StepSizes
from longalign.plan.known_models import model_shape
from longalign.plan.lengths import PlanLengths, read_lengths
from longalign.plan.memory import memory_need
from longalign.plan.picture import packs_svg


def plan(settings: PlanSettings, out: Path | None = None, *, data: PlanLengths | None = None) -> PlanReport:
    """Plan and report; with `out` also write plan.npz (the step plan itself), plan.json and packs.svg there.

    data: lengths that are known already; by default they are read as the settings name them.
    Raises ConfigError, DataError or PlanError when settings or lengths cannot be used.
    """
    shape, machine, how = model_shape(settings.model_shape), _machine(settings.machine), execution(settings)
    data = data or read_lengths(settings)
    started = time.perf_counter()
    options = _layouts(settings, data, shape, machine, how)
    step_plan = _plan(settings, data, shape, how, options[0].degree, options[0].token_limit)
    plan_hash = step_plan.hash
    plan_seconds = time.perf_counter() - started
    spent = plan_time(step_plan, shape, machine, how)
    bands_N, bands = bands_of_window(step_plan.lengths_N, step_plan.rules.window)
    step_sizes = np.diff(step_plan.step_rows_S1)
    report = PlanReport(
        strategy=settings.strategy,
        weighting=settings.weighting,
        seed=settings.seed,
        window=settings.window,
        steps=len(step_plan),
        rows=_rows(step_plan, settings, data),
        packs=_packs(step_plan),
        sequences_per_step=StepSizes(
            mean=float(step_sizes.mean()), min=int(step_sizes.min()), max=int(step_sizes.max())
        ),
        time=_time(step_plan, spent, machine),
        speedup_over_padded=_padded_seconds(settings, data, shape, machine, how, step_plan) / spent.total_s,
        layout=layout_name(settings.ranks, options[0].degree),
        layouts=options,
        sequence_parallel=options[0].degree,
        token_limit=options[0].token_limit,
        ranks=settings.ranks,
        model_shape=shape.name,
        parameters=shape.parameters,
        machine=machine.name,
        memory=memory_need(step_plan, shape, machine, how),
        by_length=_shares(step_plan, bands_N, bands),
        by_source=_shares(step_plan, data.source_N, data.sources),
        mix=data.mix,
        length_bias=length_bias(step_plan),
        plan_hash=plan_hash,
        sampling_hash=step_plan.sampling_hash,
        plan_seconds=plan_seconds,
    )
    if out is not None:
        _write(step_plan, shape, report, out)
    return report


def _machine(name: str) -> Machine:
    if name not in MACHINES:
        raise ConfigError(f"machine: unknown {name!r}; choose one of {', '.join(MACHINES)}")
    return MACHINES[name]


def _plan(
    settings: PlanSettings, data: PlanLengths, shape: ModelShape, execution: Execution,
    degree: int, token_limit: int | None, **changes: Any,
) -> StepPlan:  # fmt: skip
    arguments: dict[str, Any] = step_arguments(settings) | {
        "ranks": settings.ranks, "token_limit": token_limit, "sequence_parallel": degree, "sync": execution.sync,
        "cost": shape.sequence_cost(frozen_weights=execution.lora_rank is not None),
    }  # fmt: skip
    return plan_steps(data.lengths_N, data.targets_N, **(arguments | changes))


def _layouts(
    settings: PlanSettings, data: PlanLengths, shape: ModelShape, machine: Machine, execution: Execution
) -> Sequence[LayoutOption]:
    """Layouts, best first. Without a degree, `balanced` compares them; the paper's strategies are data parallel."""
    degrees: tuple[int, ...] = (settings.sequence_parallel or 1,)
    if settings.sequence_parallel is None and strategy_of(settings.strategy).microbatches == "balanced":
        degrees = tuple(degree for degree in DEGREES if settings.ranks % degree == 0)

    token_limit = settings.token_limit  # left open, memory has a say; a CPU has enough
    if settings.machine == "cpu":
        token_limit = microbatch_tokens(settings, on_gpu=False)

    def plan_sample(lengths: Any, degree: int, limit: int) -> StepPlan:
        sample = replace(data, lengths_N=lengths, targets_N=lengths)
        return _plan(settings, sample, shape, execution, degree, limit, epochs=1)

    return compare_degrees(
        data.lengths_N, plan_sample, shape=shape, machine=machine, execution=execution, ranks=settings.ranks,
        sequences_per_step=settings.sequences_per_step, window=settings.window, token_limit=token_limit,
        degrees=degrees, seed=settings.seed,
    )  # fmt: skip


def _rows(step_plan: StepPlan, settings: PlanSettings, data: PlanLengths) -> Rows:
    epochs = step_plan.rules.epochs
    return Rows(
        sequences=step_plan.sequences,
        sequences_without_targets=int((step_plan.targets_N == 0).sum()),
        dropped=int(data.counts.get("dropped", 0)),
        overlong_rule=settings.overlong,
        row_counts=dict(data.counts),
        lengths_from=data.basis,
        epochs=epochs,
        tokens=int(step_plan.lengths_N.sum(dtype=np.int64)) * epochs,
        targets=int(step_plan.targets_N.sum(dtype=np.int64)) * epochs,
    )


def _packs(step_plan: StepPlan) -> Packs:
    rules, tokens = step_plan.rules, pack_tokens(step_plan)
    fixed = strategy_of(rules.strategy).microbatches == "fixed"
    real = int(step_plan.lengths_N.sum(dtype=np.int64)) * rules.epochs
    capacity = rules.window if fixed else rules.token_limit * rules.sequence_parallel
    slots = capacity * step_plan.pack_count if fixed else int(tokens.sum())
    return Packs(
        packs=step_plan.pack_count,
        packs_lower_bound=fewest_packs(step_plan.lengths_N, capacity) * rules.epochs,
        pack_efficiency=real / slots,
        microbatch_fill=float(tokens.mean()) / capacity,
        padding_tokens=int(tokens.sum()) - real,
        sequences_per_pack=float(np.diff(step_plan.pack_rows_P1).mean()),
    )


def _time(step_plan: StepPlan, spent: PlanTime, machine: Machine) -> RankTime:
    return RankTime(
        idle_fraction=spent.idle,
        idle_fraction_by_sync=spent.idle_by_sync,
        communication_fraction=spent.communication,
        padding_fraction=spent.padding,
        useful_fraction=spent.useful,
        flops=spent.flops,
        mfu=spent.flops / (spent.total_s * step_plan.ranks * machine.peak_flops),
        step_seconds=StepSeconds(mean=float(spent.step_s_S.mean()), max=float(spent.step_s_S.max())),
        hours=spent.total_s / 3600,
    )


def _padded_seconds(
    settings: PlanSettings, data: PlanLengths, shape: ModelShape, machine: Machine, execution: Execution,
    step_plan: StepPlan,
) -> float:  # fmt: skip
    """Seconds of the naive run: `padded`, data parallel, the same rows on the same ranks."""
    if settings.strategy == "padded" and step_plan.rules.sequence_parallel == 1:
        return plan_time(step_plan, shape, machine, execution).total_s
    padded = _plan(settings, data, shape, execution, 1, None, strategy="padded", epochs=1)
    return plan_time(padded, shape, machine, execution).total_s * settings.num_train_epochs


def _shares(step_plan: StepPlan, group_N: IntArray, names: Sequence[str]) -> list[GroupShare]:
    """Sequences, tokens and gradient of each group under each weighting."""
    shares = gradient_shares(step_plan, group_N, len(names))
    rows = np.bincount(group_N, minlength=len(names))
    tokens = np.bincount(group_N, weights=step_plan.lengths_N, minlength=len(names))
    return [
        GroupShare(
            name=name,
            sequences=int(rows[g]),
            token_share=float(tokens[g] / tokens.sum()),
            gradient_share={mode: float(share[g]) for mode, share in shares.items()},
        )
        for g, name in enumerate(names)
    ]


def _write(step_plan: StepPlan, shape: ModelShape, report: PlanReport, out: Path) -> None:
    make_folder(out)
    step_plan.save(out / "plan.npz")
    atomic_write_json(out / "plan.json", report.as_dict())
    atomic_write_text(out / "packs.svg", packs_svg(step_plan, shape.sequence_cost()))
