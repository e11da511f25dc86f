"""Before training: prints the report of `longalign plan` for the very sequences that the run will train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from longalign.base.progress import say
from longalign.config import LoopSettings
from longalign.config.plan import plan_settings
from longalign.data.mix import mix_lines, shares_of
from longalign.data.store import TokenStore
from longalign.errors import DataError
from longalign.plan.figures import PlanReport
from longalign.plan.report import plan
from longalign.train.parallel import ranks
from longalign.train.parallel.placement import Placement


def preview(
    settings: LoopSettings, placement: Placement, source: str, tokens: Path, out: Path | None = None
) -> PlanReport:
    """The plan's report for the token store in `tokens`; files go to `out` if given.

    `source` is a model directory or hub id. Raises ConfigError when the model's shape cannot be read from its config.
    """
    return plan(
        plan_settings(
            settings,
            model=source,
            machine=machine_name(placement),
            ranks=placement.world_size,
            parallel=placement.mode,
            data=(str(tokens),),
        ),
        out,
    )


def headline(report: PlanReport) -> str:
    """The plan in one line."""
    return (
        f"plan: {report.steps} steps of {report.sequences_per_step.mean:.0f} sequences, "
        f"{report.packs.packs} microbatches, {report.time.padding_fraction:.1%} padding, "
        f"{report.time.idle_fraction:.1%} idle, {report.speedup_over_padded:.1f}x the speed of padded batches"
    )


def machine_name(placement: Placement) -> str:
    """The planner's name of this machine's accelerator, or the paper's if it is unknown."""
    return known_accelerator(placement) or ("a100-80g" if placement.on_gpu else "cpu")


def known_accelerator(placement: Placement) -> str | None:
    """The planner's name of this machine's GPU; None for others (PCIe cards are slower) and on a CPU."""
    if not placement.on_gpu:
        return None
    name = torch.cuda.get_device_name().lower()
    names = {"h200": "h200", "h100": "h100-80g", "a100": "a100-80g"}
    return next((known for word, known in names.items() if word in name and "pcie" not in name), None)


def announce(settings: LoopSettings, placement: Placement, store: TokenStore, source: str, out: Path) -> PlanReport:
    """Say what will be trained on and how; writes plan/ (report and picture of packs). Every rank calls it."""
    if len(store) == 0:
        raise DataError(f"no sequence with targets is left to train on ({store.counts}); look at the rows' lengths")
    report = preview(settings, placement, source, store.folder, out / "plan" if ranks.is_first() else None)
    if ranks.is_first():
        say("\n".join([describe(store), *mix_lines(shares_of(store))]))
        say(headline(report))
    return report


def describe(store: TokenStore) -> str:
    """The training data in one line."""
    lengths = store.lengths
    notes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in store.counts.items() if name != "rows")
    return (
        f"data: {len(store)} sequences, {int(lengths.sum()):,} tokens ({int(store.target_counts.sum()):,} targets), "
        f"median length {int(np.median(lengths)) if len(store) else 0}, longest {int(lengths.max(initial=0))}"
        + (f"; {notes}" if notes else "")
    )
