"""The types of a recipe's plan (`longalign run --plan-only`); `as_dict` is its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from longalign.data.mix import as_dicts
from longalign.eval.cost import EvalPlan
from longalign.plan.figures import SCHEMA, PlanReport

KEPT = (
    "strategy", "weighting", "layout", "window", "sequences", "epochs", "sequences_per_step", "mfu", "idle_fraction",
    "speedup_over_padded", "memory",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """One training run for one seed. `report` is of all its epochs, the figures here of what `max_steps` leaves.

    rows: how many come from each file or set.
    """

    report: PlanReport
    rows: Mapping[str, int]
    max_steps: int | None
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return min(self.report.steps, self.max_steps or self.report.steps)

    @property
    def hours(self) -> float:
        return self.report.time.hours * self._share

    @property
    def flops(self) -> float:
        return self.report.time.flops * self._share

    @property
    def tokens(self) -> int:
        return round(self.report.rows.tokens * self._share)

    @property
    def targets(self) -> int:
        return round(self.report.rows.targets * self._share)

    @property
    def packs(self) -> int:
        return round(self.report.packs.packs * self._share)

    @property
    def _share(self) -> float:
        return self.steps / self.report.steps

    def as_dict(self) -> dict[str, Any]:
        whole = self.report.as_dict()
        figures = {name: getattr(self, name) for name in ("steps", "hours", "flops", "tokens", "targets", "packs")}
        kept = {key: whole[key] for key in KEPT}
        return {
            **kept,
            **figures,
            "rows": dict(self.rows),
            "mix": as_dicts(self.report.mix),
            "step_s": self.report.time.step_seconds.mean,
        }


@dataclass(frozen=True, kw_only=True)
class PlannedData:
    """Calls, tokens and money of one set of rows; None where they are not known. basis: what they were counted on."""

    llm: str
    basis: str
    rows: int | None
    calls: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, kw_only=True)
class PlannedEval:
    """The evaluations of all models, and the hours one accelerator reads their prompts."""

    plan: EvalPlan
    accelerator_hours: float

    def as_dict(self) -> dict[str, Any]:
        return self.plan.as_dict() | {"accelerator_hours": self.accelerator_hours}


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Of all seeds and stages. cost_usd: None where a price is not known."""

    training_hours: float
    accelerator_hours: float
    cost_usd: float | None


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What every stage of a recipe would do. `seeds` is their number."""

    name: str
    model: str
    parameters: int
    machine: str
    ranks: int
    seeds: int
    extend: Mapping[str, PlannedTraining]
    data: Mapping[str, PlannedData]
    arms: Mapping[str, PlannedTraining]
    eval: PlannedEval
    totals: Totals
    notes: Sequence[str]

    @property
    def trainings(self) -> dict[str, PlannedTraining]:
        """Every training run by name: the stages of `extend`, then the arms."""
        return dict(self.extend) | dict(self.arms)

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values. `extend` is null, one plan, or a list of several, as in the recipe."""
        extend = [row.as_dict() for row in self.extend.values()]
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            "schema": SCHEMA,
            **plain,
            "extend": extend if len(extend) > 1 else next(iter(extend), None),
            "data": {name: asdict(row) for name, row in self.data.items()},
            "arms": {name: row.as_dict() for name, row in self.arms.items()},
            "eval": self.eval.as_dict(),
            "totals": asdict(self.totals),
        }
