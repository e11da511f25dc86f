"""Trains a model on sequences by a step plan: what fine-tuning and continued pretraining share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from longalign.base.files import read_jsonl
from longalign.base.progress import Progress, say
from longalign.config import LoopSettings
from longalign.config.plan import step_arguments
from longalign.core.batching import plan_steps, replan
from longalign.core.hardware import MACHINES
from longalign.core.model_shape import ModelShape, SequenceCost
from longalign.core.step_plan import StepPlan, load_plan, save_plan
from longalign.core.weighting import WeightSchedule
from longalign.data.store import TokenStore
from longalign.errors import ConfigError, DataError, RunError
from longalign.train import checkpoint
from longalign.train.admit import takes_rows
from longalign.train.announce import known_accelerator
from longalign.train.collate import StepLoader
from longalign.train.heldout import HeldOut
from longalign.train.lora import has_adapters
from longalign.train.metrics import Groups, StepMeter
from longalign.train.parallel import ranks
from longalign.train.parallel.arguments import training_arguments
from longalign.train.parallel.placement import Placement
from longalign.train.task_curve import TaskCurve
from longalign.train.trainer import PlanTrainer


def fit(
    model: nn.Module,
    store: TokenStore,
    settings: LoopSettings,
    placement: Placement,
    folder: Path,
    *,
    label: str,
    heldout_store: TokenStore | None = None,
    curve: TaskCurve | None = None,
    before: Callable[[nn.Module], None] = lambda model: None,
) -> tuple[PlanTrainer, dict[str, Any]]:
    """Train `model` (from `build_model`) on all steps of the plan, resuming from the newest whole checkpoint.

    `before` is called with the model as it will train, on its devices, before the first step. Writes plan.npz,
    metrics.jsonl and checkpoints/ into `folder`.
    Returns the trainer, whose `model` is trained, and a summary.
    """
    resumed = ranks.on_first_rank(partial(checkpoint.newest_good, folder / "checkpoints", say))
    done = checkpoint.step_of(resumed) if resumed else 0
    plan = step_plan(store, settings, placement, folder, cost=model_cost(model), from_step=done)
    steps = min(len(plan), settings.max_steps or len(plan))
    dtype = next(model.parameters()).dtype
    loader = StepLoader(
        store,
        plan,
        weight_schedule(settings),
        data_rank=placement.data_rank,
        averaged_ranks=placement.world_size,
        first_step=done,
        stop=steps,
        dtype=torch.float64 if dtype == torch.float64 else torch.float32,
    )
    heldout = None
    if heldout_store is not None and len(heldout_store):
        heldout = HeldOut.of(
            heldout_store,
            window=settings.window,
            ranks_=placement.world_size,
            data_rank=placement.data_rank,
            sequence_parallel=placement.sequence_parallel,
            one_sequence_a_row=takes_rows(model),
        )
    elif (settings.best_by or "").startswith("heldout."):
        raise ConfigError(f"best_by: {settings.best_by}: nothing is held out (of 10 documents and more, one is)")
    if done and ranks.is_first():
        say(f"{label}: resuming at step {done} of {steps} ({resumed})")
    with Progress(label, total=steps, unit="step", done=done) as bar:

        def on_step(row: dict[str, Any]) -> None:
            if ranks.is_first():
                note = f"loss {row['loss']:.3f}, {row['target_tokens_per_s']:.0f} targets/s"
                bar.advance(1, note)

        trainer = PlanTrainer(
            model,
            training_arguments(settings, placement, folder, steps),
            settings=settings,
            placement=placement,
            loader=loader,
            meter=StepMeter(
                folder / "metrics.jsonl", plan, Groups.of_store(store), placement.world_size, peak_flops(placement)
            ),
            checkpoints=folder / "checkpoints",
            names_of=store.names,
            heldout=heldout,
            curve=curve,
            on_step=on_step,
            before=before,
        )
        if resumed:
            trainer.resume(resumed)
        else:
            if ranks.is_first():
                (folder / "metrics.jsonl").unlink(missing_ok=True)
                if curve:
                    curve.forget_after(None)
            trainer.train()
    last = trainer.state.global_step
    summary = summarise(folder, plan, last)
    if trainer.best:
        best = trainer.best.restore(last, trainer.model)
        if ranks.is_first():
            say(f"{label}: best by {best['by']}: {best['value']:.4g}, the weights of step {best['step']} of {last}")
        summary |= {"best": best, "planned_steps": steps}
    return trainer, summary


def step_plan(
    store: TokenStore,
    settings: LoopSettings,
    placement: Placement,
    folder: Path,
    *,
    cost: SequenceCost,
    from_step: int = 0,
) -> StepPlan:
    """The plan of this run: the one in `folder`, or a new one.

    Where ranks, or other settings of how a step is carried out, have changed since the plan was made, the steps from
    `from_step` on are laid out anew; each keeps its sequences. Raises `RunError` if the tokens are no longer those that
    the plan was made for.
    """
    path = folder / "plan.npz"
    placing: dict[str, Any] = {
        "ranks": placement.world_size,
        "sequence_parallel": placement.sequence_parallel,
        "token_limit": placement.token_limit,
        "rows_per_microbatch": settings.rows_per_microbatch,
        "sync": placement.sync,
        "cost": cost,
    }
    if path.exists():
        plan = load_plan(path)
        if not (np.array_equal(plan.lengths_N, store.lengths) and np.array_equal(plan.targets_N, store.target_counts)):
            raise RunError(
                f"{path}: made for other tokens than those of {store.folder} (an earlier version read these rows in "
                "another way); train anew with --restart"
            )
        if any(getattr(plan.rules, name) != value for name, value in placing.items()):
            plan = replan(plan, **placing, from_step=from_step)
        return plan
    if len(store) == 0:
        counted = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in store.counts.items())
        raise DataError(f"{store.folder}: no sequence with targets is left to train on ({counted})")
    plan = plan_steps(store.lengths, store.target_counts, **(step_arguments(settings) | placing))
    ranks.barrier()
    if ranks.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        save_plan(plan, path)
    ranks.barrier()
    return plan


def model_cost(model: nn.Module) -> SequenceCost:
    """FLOPs of a sequence through this model, from its config."""
    config: Any = model.config
    text = config.get_text_config()
    named = {name: getattr(text, name, None) for name in text.attribute_map}  # GPT-2 calls hidden_size n_embd
    shape = ModelShape.from_config(named | text.to_dict(), name=str(config.model_type))
    return shape.sequence_cost(frozen_weights=has_adapters(model))


def peak_flops(placement: Placement) -> float | None:
    """Peak FLOPs per second of one GPU, for MFU; None for unknown GPUs and on a CPU."""
    name = known_accelerator(placement)
    return MACHINES[name].peak_flops if name else None


def weight_schedule(settings: LoopSettings) -> WeightSchedule:
    """`weighting`, after `token_weighting_steps` steps of token weighting."""
    return WeightSchedule("token", settings.weighting, switch=settings.token_weighting_steps)


def summarise(folder: Path, plan: StepPlan, steps: int) -> dict[str, Any]:
    """What the run measured, from its files."""
    rows = read_jsonl(folder / "metrics.jsonl")
    measured = [row for row in rows if "loss" in row]
    heldout = [row for row in rows if "heldout" in row]
    asked = [row for row in rows if "tasks" in row]
    last = measured[-10:]
    seconds = sum(row["step_s"] for row in measured)
    return {
        "steps": steps,
        "sequences": plan.sequences,
        "epochs": plan.rules.epochs,
        "plan_hash": plan.hash,
        "final_loss": sum(row["loss"] for row in last) / len(last) if last else None,
        "train_s": round(seconds, 2),
        "target_tokens_per_s": round(sum(row["target_tokens"] for row in measured) / max(seconds, 1e-9), 1),
        "tokens_per_s": round(sum(row["tokens"] for row in measured) / max(seconds, 1e-9), 1),
        "heldout": {"first": heldout[0]["heldout"], "last": heldout[-1]["heldout"]} if heldout else None,
        "eval_tasks": {"last": asked[-1]["tasks"], "seconds": sum(row["eval_s"] for row in asked)} if asked else None,
    }
