"""The verb `plan`: everything about a training run that is known before its first step.

Lengths go in; the steps, how full packs are, how busy ranks are, what it costs in time and memory and whose gradient
it is come out, as a dict (`--json`), a table, and with `--out` as files: plan.npz (the step plan itself), plan.json
and packs.svg.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from longalign.config import PlanSettings
from longalign.core.batching import plan_steps
from longalign.core.gradient_shares import gradient_shares, length_bands, length_bias
from longalign.core.hardware import MACHINES, Execution, Machine, largest_microbatch, rank_memory
from longalign.core.model_shape import ModelShape
from longalign.core.packing import fewest_packs
from longalign.core.step_plan import StepPlan
from longalign.core.timing import DEGREES, LayoutOption, PlanTime, compare_degrees, layout_name, pack_tokens, plan_time
from longalign.errors import ConfigError
from longalign.plan.known_models import model_shape
from longalign.plan.lengths import PlanLengths, read_lengths


def plan(settings: PlanSettings, out: Path | None = None, *, data: PlanLengths | None = None) -> dict[str, Any]:
    """Plan and report. Keys are described in docs/guide/plan.md; `text` is the table for people.

    data: lengths that are known already; by default they are read as the settings name them.
    Raises ConfigError, DataError or PlanError when settings or lengths cannot be used.
    """
    shape, machine = model_shape(settings.model_shape), _machine(settings.machine)
    execution = _execution(settings)
    data = data or read_lengths(settings)
    started = time.perf_counter()
    options = _layouts(settings, data, shape, machine, execution)
    step_plan = _plan(settings, data, shape, execution, options[0].degree, options[0].token_limit)
    plan_hash = step_plan.hash
    plan_seconds = time.perf_counter() - started
    spent = plan_time(step_plan, shape, machine, execution)
    summary = {
        "strategy": settings.strategy,
        "sequences": step_plan.sequences,
        "sequences_without_targets": int((step_plan.targets_N == 0).sum()),
        "dropped": int(data.counts.get("dropped", 0)),
        "overlong_rule": settings.overlong,
        "row_counts": dict(data.counts),
        "lengths_from": data.basis,
        "epochs": settings.epochs,
        "steps": len(step_plan),
        **_packs(step_plan),
        **_time(step_plan, spent, machine),
        "speedup_over_padded": _padded_seconds(settings, data, shape, machine, execution, step_plan, spent),
        "layout": layout_name(settings.ranks, options[0].degree),
        "layouts": [_option(option) for option in options],
        "sequence_parallel": options[0].degree,
        "token_limit": options[0].token_limit,
        "window": settings.window,
        "ranks": settings.ranks,
        "model_shape": shape.name,
        "parameters": shape.parameters,
        "machine": machine.name,
        "memory": _memory(step_plan, shape, machine, execution),
        **_shares(step_plan, data),
        "weighting": settings.weighting,
        "length_bias": length_bias(step_plan),
        "seed": settings.seed,
        "plan_hash": plan_hash,
        "sampling_hash": step_plan.sampling_hash,
        "plan_seconds": plan_seconds,
    }
    from longalign.plan.text import plan_text

    summary["text"] = plan_text(summary)
    if out is not None:
        _write(step_plan, shape, summary, out)
    return summary


def _machine(name: str) -> Machine:
    if name not in MACHINES:
        raise ConfigError(f"machine: unknown {name!r}; choose one of {', '.join(MACHINES)}")
    return MACHINES[name]


def _execution(settings: PlanSettings) -> Execution:
    given = {name: getattr(settings, name) for name in Execution.__dataclass_fields__ if name != "half"}
    given["sharding"] = settings.sharding or ("none" if settings.quantize else "full")
    return Execution(**given, half=settings.dtype == "bfloat16" and settings.machine != "cpu")


def _plan(
    settings: PlanSettings, data: PlanLengths, shape: ModelShape, execution: Execution,
    degree: int, token_limit: int | None, **changes: Any,
) -> StepPlan:  # fmt: skip
    asked: dict[str, Any] = {
        "window": settings.window, "ranks": settings.ranks, "sequences_per_step": settings.sequences_per_step,
        "strategy": settings.strategy, "seed": settings.seed, "epochs": settings.epochs, "token_limit": token_limit,
        "packs_per_step": settings.packs_per_step, "packing": settings.packing, "sequence_parallel": degree,
        "rows_per_microbatch": settings.rows_per_microbatch, "sync": execution.sync,
        "cost": shape.sequence_cost(frozen_weights=execution.lora_rank is not None),
    }  # fmt: skip
    return plan_steps(data.lengths_N, data.targets_N, **(asked | changes))


def _layouts(
    settings: PlanSettings, data: PlanLengths, shape: ModelShape, machine: Machine, execution: Execution
) -> Sequence[LayoutOption]:
    """Layouts, best first. `auto` compares degrees for `balanced`; the paper's strategies are data parallel."""
    if settings.layout != "auto":
        degrees: tuple[int, ...] = (int(settings.layout.removeprefix("sp")),)
    else:
        divisors = tuple(degree for degree in DEGREES if settings.ranks % degree == 0)
        degrees = divisors if settings.strategy == "balanced" else (1,)

    def plan_sample(lengths: Any, degree: int, limit: int) -> StepPlan:
        sample = replace(data, lengths_N=lengths, targets_N=lengths)
        return _plan(settings, sample, shape, execution, degree, limit, epochs=1)

    return compare_degrees(
        data.lengths_N, plan_sample, shape=shape, machine=machine, execution=execution, ranks=settings.ranks,
        sequences_per_step=settings.sequences_per_step, window=settings.window, token_limit=settings.token_limit,
        degrees=degrees, seed=settings.seed,
    )  # fmt: skip


def _packs(step_plan: StepPlan) -> dict[str, Any]:
    """pack_efficiency: real tokens over token slots. Slots are the window for each pack of `packed`, the padded rows
    of `padded` and `sorted`, and the tokens themselves for `balanced`, whose microbatches have no fixed size.
    """
    tokens, sizes = pack_tokens(step_plan), np.diff(step_plan.pack_rows_P1)
    real = int(step_plan.lengths_N.sum(dtype=np.int64)) * step_plan.rules.epochs
    rules = step_plan.rules
    capacity = rules.window if rules.strategy == "packed" else rules.token_limit * rules.sequence_parallel
    slots = capacity * step_plan.pack_count if rules.strategy == "packed" else int(tokens.sum())
    step_sizes = np.diff(step_plan.step_rows_S1)
    return {
        "packs": step_plan.pack_count,
        "packs_lower_bound": fewest_packs(step_plan.lengths_N, capacity) * rules.epochs,
        "pack_efficiency": real / slots,
        "microbatch_fill": float(tokens.mean()) / capacity,
        "padding_tokens": int(tokens.sum()) - real,
        "sequences_per_pack": float(sizes.mean()),
        "sequences_per_step": {
            "mean": float(step_sizes.mean()), "min": int(step_sizes.min()), "max": int(step_sizes.max()),
        },
        "tokens": real,
        "targets": int(step_plan.targets_N.sum(dtype=np.int64)) * rules.epochs,
    }  # fmt: skip


def _time(step_plan: StepPlan, spent: PlanTime, machine: Machine) -> dict[str, Any]:
    return {
        "idle_fraction": spent.idle,
        "idle_fraction_by_sync": spent.idle_by_sync,
        "communication_fraction": spent.communication,
        "padding_fraction": spent.padding,
        "useful_fraction": spent.useful,
        "flops": spent.flops,
        "mfu": spent.flops / (spent.total_s * step_plan.ranks * machine.peak_flops),
        "step_seconds": {"mean": float(spent.step_s_S.mean()), "max": float(spent.step_s_S.max())},
        "hours": spent.total_s / 3600,
    }


def _padded_seconds(
    settings: PlanSettings, data: PlanLengths, shape: ModelShape, machine: Machine, execution: Execution,
    step_plan: StepPlan, spent: PlanTime,
) -> float:  # fmt: skip
    """How many times longer the naive run takes: `padded`, data parallel, the same rows on the same ranks."""
    if settings.strategy == "padded" and step_plan.rules.sequence_parallel == 1:
        return 1.0
    padded = _plan(settings, data, shape, execution, 1, None, strategy="padded", epochs=1)
    return plan_time(padded, shape, machine, execution).total_s * settings.epochs / spent.total_s


def _memory(step_plan: StepPlan, shape: ModelShape, machine: Machine, execution: Execution) -> dict[str, Any]:
    degree, ranks = step_plan.rules.sequence_parallel, step_plan.ranks
    tokens = -(-int(pack_tokens(step_plan).max()) // degree)
    need = rank_memory(shape, execution, ranks=ranks, tokens=tokens)

    def largest(execution: Execution) -> dict[str, Any]:
        room = largest_microbatch(shape, execution, machine, ranks=ranks)
        windows = {
            layout_name(ranks, d): room * d
            for d in DEGREES
            if ranks % d == 0 and shape.heads % d == 0 and d <= machine.ranks_per_node
        }
        host = rank_memory(shape, execution, ranks=ranks, tokens=room).host
        return {"largest_window": windows, "host_bytes_per_rank": host}

    return {
        "tokens_per_rank": tokens,
        "bytes_per_rank": need.total,
        "parts": asdict(need),
        "machine_bytes": machine.memory_bytes,
        "fits": need.total <= machine.memory_bytes,
        **largest(execution),
        "with": {name: largest(changed) for name, changed in _savings(execution).items() if changed != execution},
    }


def _savings(execution: Execution) -> dict[str, Execution]:
    """What could be set to fit a longer window, by name; the cheapest first."""
    tiles = {"mlp_tile_tokens": execution.mlp_tile_tokens or 4096}
    activations = tiles | {"activation_offload": True, "gradient_checkpointing": True}
    # 4-bit weights can be neither split nor offloaded: what is asked without them returns to the usual layout
    full: dict[str, Any] = {"quantize": None, "sharding": "full"} if execution.quantize else {}
    host = full | {"cpu_offload": True, "sharding": "full"}
    adapters = full | {"lora_rank": execution.lora_rank or 16}
    quantised = adapters | {"quantize": "4bit", "sharding": "none", "cpu_offload": False}
    changes: dict[str, dict[str, Any]] = {
        "MLP in tiles": tiles,
        "... and activations on the host": activations,
        "... and weights on the host": activations | host,
        "LoRA": adapters,
        "LoRA, tiles, activations on host": adapters | activations,
        "QLoRA": quantised,
        "QLoRA, tiles, activations on host": quantised | activations,
    }
    return {name: replace(execution, **change) for name, change in changes.items()}


def _shares(step_plan: StepPlan, data: PlanLengths) -> dict[str, Any]:
    """Length histogram, and share of the gradient by length band and by source under each weighting."""
    bands_N, names = length_bands(step_plan.lengths_N, step_plan.rules.window)

    def table(group_N: Any, labels: Sequence[str]) -> list[dict[str, Any]]:
        shares = gradient_shares(step_plan, group_N, len(labels))
        rows = np.bincount(group_N, minlength=len(labels))
        tokens = np.bincount(group_N, weights=step_plan.lengths_N, minlength=len(labels))
        return [
            {
                "name": label,
                "sequences": int(rows[g]),
                "token_share": float(tokens[g] / tokens.sum()),
                "gradient_share": {mode: float(share[g]) for mode, share in shares.items()},
            }
            for g, label in enumerate(labels)
        ]

    return {"by_length": table(bands_N, names), "by_source": table(data.source_N, data.sources)}


def _option(option: LayoutOption) -> dict[str, Any]:
    if option.time is None:
        return {"layout": option.name, "unusable": option.reason}
    return {
        "layout": option.name,
        "token_limit": option.token_limit,
        "fits": option.fits,
        "step_seconds": float(option.time.step_s_S.mean()),
        "idle_fraction": option.time.idle,
        "communication_fraction": option.time.communication,
    }


def _write(step_plan: StepPlan, shape: ModelShape, summary: dict[str, Any], out: Path) -> None:
    from longalign.base.files import atomic_write_json, atomic_write_text, make_folder
    from longalign.plan.picture import packs_svg

    make_folder(out)
    step_plan.save(out / "plan.npz")
    atomic_write_json(out / "plan.json", {key: value for key, value in summary.items() if key != "text"})
    atomic_write_text(out / "packs.svg", packs_svg(step_plan, shape.sequence_cost()))
