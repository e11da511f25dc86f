"""The types of a plan report. `PlanReport.as_dict` is the JSON of plan.json and `--json`.

docs/guide/plan.md describes its keys. `schema` is their version: files without it are version 1, whose keys are the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from longalign.core.gradient_shares import LengthBias
from longalign.core.memory import RankMemory
from longalign.core.timing import LayoutOption
from longalign.data.mix import FileShare, as_dicts

SCHEMA = 2


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What is trained on. Tokens and targets are of the whole run, sequences of one epoch.

    row_counts: what happened to rows on the way (`overlong`, `dropped`, ...). lengths_from: how lengths were obtained.
    """

    sequences: int
    sequences_without_targets: int
    dropped: int
    overlong_rule: str
    row_counts: Mapping[str, int]
    lengths_from: str
    epochs: int
    tokens: int
    targets: int


@dataclass(frozen=True, kw_only=True)
class Packs:
    """Microbatches of the whole run. pack_efficiency: real tokens over token slots.

    Slots are the window for each pack of `packed`, the padded rows of `padded` and `sorted`, and the tokens themselves
    for `balanced`, whose microbatches have no fixed size (microbatch_fill: how near the limit they come).
    """

    packs: int
    packs_lower_bound: int
    pack_efficiency: float
    microbatch_fill: float
    padding_tokens: int
    sequences_per_pack: float


@dataclass(frozen=True, kw_only=True)
class StepSizes:
    """Sequences of a step."""

    mean: float
    min: int
    max: int


@dataclass(frozen=True, kw_only=True)
class StepSeconds:
    mean: float
    max: float


@dataclass(frozen=True, kw_only=True)
class RankTime:
    """Where the time of the ranks goes; useful, idle, communication and padding add up to 1."""

    idle_fraction: float
    idle_fraction_by_sync: Mapping[str, float]
    communication_fraction: float
    padding_fraction: float
    useful_fraction: float
    flops: float
    mfu: float
    step_seconds: StepSeconds
    hours: float


@dataclass(frozen=True, kw_only=True)
class LargestWindow:
    """Tokens of the longest window that fits, by layout, and what it asks of the host's memory."""

    largest_window: Mapping[str, int]
    host_bytes_per_rank: float


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """Memory of a rank at the peak of the largest step. savings: the largest window with other settings, by name."""

    tokens_per_rank: int
    bytes_per_rank: float
    parts: RankMemory
    machine_bytes: float
    fits: bool
    largest: LargestWindow
    savings: Mapping[str, LargestWindow]

    def as_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        largest, savings = plain.pop("largest"), plain.pop("savings")
        return {**plain, **largest, "with": savings}


@dataclass(frozen=True, kw_only=True)
class GroupShare:
    """Sequences of one length band or source, and their share of the tokens and, by weighting, of the gradient."""

    name: str
    sequences: int
    token_share: float
    gradient_share: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """Everything about a training run that is known before its first step."""

    strategy: str
    weighting: str
    seed: int
    window: int
    steps: int
    rows: Rows
    packs: Packs
    sequences_per_step: StepSizes
    time: RankTime
    speedup_over_padded: float
    layout: str
    layouts: Sequence[LayoutOption]
    sequence_parallel: int
    token_limit: int
    ranks: int
    model_shape: str
    parameters: int
    machine: str
    memory: MemoryNeed
    by_length: Sequence[GroupShare]
    by_source: Sequence[GroupShare]
    mix: Sequence[FileShare]
    length_bias: LengthBias | None
    plan_hash: str
    sampling_hash: str
    plan_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, its groups of figures side by side."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        shares = as_dicts(plain.pop("mix"))
        mix = {"mix": shares} if shares else {}  # lengths alone come from no file
        groups = {name: plain.pop(name) for name in ("rows", "packs", "time")}
        figures = {key: value for group in groups.values() for key, value in asdict(group).items()}
        return {
            "schema": SCHEMA,
            **plain,
            **figures,
            "sequences_per_step": asdict(self.sequences_per_step),
            "layouts": [_option(option) for option in self.layouts],
            "memory": self.memory.as_dict(),
            "by_length": [asdict(group) for group in self.by_length],
            "by_source": [asdict(group) for group in self.by_source],
            "length_bias": asdict(self.length_bias) if self.length_bias else None,
            **mix,
        }


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
