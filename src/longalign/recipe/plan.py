"""`longalign run --plan-only`: what every stage of a recipe would do, from the recipe alone.

Needs no weights, no network and no files. Rows and documents that exist are measured; the others are simulated
as the recipe's `assume` describes them, and the report says which. Nothing is written but the list of counted
documents, which `data` would make anyway.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from longalign.base.files import make_folder
from longalign.base.sources import Named
from longalign.base.stage import place_to_plan
from longalign.config import DataSettings, ExtendSettings, LoopSettings, PlanSettings, RunSettings, TrainSettings
from longalign.config.mix import Amount, Portion
from longalign.config.plan import plan_settings
from longalign.core.hardware import MACHINES
from longalign.core.model_shape import ModelShape
from longalign.data.build_plan import plan_build
from longalign.data.document_draw import DocumentLengths, DocumentSummary
from longalign.data.mix import draw_mix, drawn_rows, file_shares
from longalign.errors import ConfigError
from longalign.eval.cost import plan_eval
from longalign.plan.known_models import local_file, model_shape
from longalign.plan.lengths import fit_to_window, sums_by_file, trained_tokens
from longalign.plan.recipe_lengths import (
    LONG_ROWS,
    RowLengths,
    assumed_rows,
    in_shares,
    is_here,
    measured_rows,
    simulated_rows,
    text_lengths,
    windows,
)
from longalign.plan.report import plan
from longalign.recipe.arms import arm_rows, arm_settings, extension_names, no_rows, rows_file
from longalign.recipe.check import check_model
from longalign.recipe.planned import PlannedData, PlannedEval, PlannedTraining, RunPlan, Totals

OVERLONG = "truncate_middle_of_document"  # of the rows that `extend` mixes in
ROW_SUFFIXES = (".json", ".jsonl", ".gz", ".parquet")


@dataclass
class RowSource:
    """Finds the rows that stages read: built sets, files that are here, or what is assumed of those that are not."""

    settings: RunSettings
    out: Path
    found: dict[str, RowLengths] = field(default_factory=dict)

    def mixed(self, files: Mapping[str, Amount], loop: ExtendSettings | TrainSettings, seed: int) -> Mixed:
        """The rows that a stage uses of each set or file, drawn as the stage will draw them. Of a file that is too
        short all are taken: what is short now may be built by then."""
        for name, amount in files.items():
            if name not in self.found:
                self.found[name] = self._all(name, amount)
        held = {self._file(name): self.found[name] for name in files}
        asked: dict[str, Amount] = {}
        for name, amount in files.items():
            rows = len(self.found[name].lengths_N)
            asked[self._file(name)] = min(amount, rows) if isinstance(amount, int) else amount
        window = PlanSettings(
            window=loop.window, overlong=loop.overlong if isinstance(loop, TrainSettings) else OVERLONG
        )
        times = draw_mix(
            asked, {file: len(rows.lengths_N) for file, rows in held.items()}, by=loop.mix_by, total=loop.mix_total,
            seed=seed, tokens_of=lambda file: trained_tokens(held[file].lengths_N, window),
        )  # fmt: skip
        own = {name: times[self._file(name)] for name in files}
        return Mixed({name: self.found[name].used(times_R) for name, times_R in own.items()}, drawn_rows(own))

    def _file(self, name: str) -> str:
        """What draws are keyed by: the file that a set will be."""
        return str(rows_file(self.out, name)) if name in self.settings.data else name

    def _all(self, name: str, amount: Amount) -> RowLengths:
        built = self.settings.data.get(name)
        if is_here([self._file(name)]):
            return measured_rows(self._file(name), self.settings.model)
        if built:
            band = _band(built, built.max_length_tokens)
            return simulated_rows(name, rows=built.rows, lengths=band, why="not built yet")
        wanted = amount.rows if isinstance(amount, Portion) else amount
        return assumed_rows(name, wanted, self.settings.assume.get(name))


@dataclass(frozen=True)
class Mixed:
    """Rows by set or file, repetitions included, and how many each holds and gives."""

    parts: Mapping[str, RowLengths]
    drawn: Mapping[str, Mapping[str, int]]


def plan_run(settings: RunSettings, out: Path) -> RunPlan:
    """The plan of the whole recipe.

    Raises `ConfigError` for settings that no run could have (unknown machine, model shape, set or key of an arm) and
    `ModelError` for a model that cannot be trained exactly, if its config is here.
    """
    if settings.machine not in MACHINES:
        raise ConfigError(f"machine: unknown {settings.machine!r}; choose one of {', '.join(MACHINES)}")
    shape = model_shape(settings.model)
    if not Named(settings.model).bundled and (config := local_file(settings.model, "config.json")):
        check_model(settings, str(config.parent))
    source = RowSource(settings, out)
    stages = zip(extension_names(settings), settings.extensions, strict=True)
    extend = {name: _plan_extend(stage, settings, source) for name, stage in stages}
    data = {name: _plan_data(wanted, out, name) for name, wanted in settings.data.items()}
    arms = {arm: _plan_arm(settings, arm, source) for arm in settings.train.arms}
    models = 1 + bool(extend) + len(arms) * len(settings.seeds)
    window = max((row.report.window for row in [*arms.values(), *extend.values()]), default=4096)
    asks = plan_eval(settings.eval, models=models, window=window)
    reading_s = sum(_reading_s(shape, found, settings) for found in asks.prompt_tokens_N.values())
    evaluation = PlannedEval(plan=asks, accelerator_hours=models * reading_s / 3600)
    found = RunPlan(
        name=settings.name,
        model=settings.model,
        parameters=shape.parameters,
        machine=settings.machine,
        ranks=_ranks(settings),
        seeds=len(settings.seeds),
        extend=extend,
        data=data,
        arms=arms,
        eval=evaluation,
        totals=_totals(settings, extend, data, arms, evaluation),
        notes=(),
    )
    return replace(found, notes=_notes(found, source))


def _plan_extend(extend: ExtendSettings, settings: RunSettings, source: RowSource) -> PlannedTraining:
    """Documents in windows, every token a target, with the rows that are mixed in."""
    parts = {}
    for name in extend.text:
        if is_here([name]):
            found = text_lengths([name], settings.model)
        else:
            found = assumed_rows(name, None, settings.assume.get(name))
        source.found[name] = parts[name] = windows(found, extend.window)
    if extend.windows:
        parts = in_shares(parts, extend.windows, seed=extend.seed)
    mixed = source.mixed(extend.data, extend, extend.seed)
    parts |= mixed.parts
    if not parts:
        raise ConfigError("extend: no `text` to train on; name files or folders of documents")
    return _plan_training(extend, settings, parts, mixed.drawn)


def _plan_arm(settings: RunSettings, arm: str, source: RowSource) -> PlannedTraining:
    wanted = arm_rows(settings, arm)
    for name in wanted:
        if not (name in settings.data or is_here([name]) or name.endswith(ROW_SUFFIXES)):
            raise no_rows(settings, arm, name)
    loop = arm_settings(settings, arm, model=settings.model, data=wanted)
    mixed = source.mixed(wanted, loop, next(iter(settings.seeds), 0))
    return _plan_training(loop, settings, mixed.parts, mixed.drawn)


def _plan_training(
    loop: LoopSettings, settings: RunSettings, parts: Mapping[str, RowLengths], drawn: Mapping[str, Mapping[str, int]]
) -> PlannedTraining:
    """One training run: the figures of `longalign plan` that count before it starts."""
    planned = plan_settings(loop, model=settings.model, machine=settings.machine, ranks=_ranks(settings))
    lengths_N = np.concatenate([part.lengths_N for part in parts.values()])
    targets_N = np.concatenate([part.targets_N for part in parts.values()])
    source_N = np.repeat(np.arange(len(parts)), [len(part.lengths_N) for part in parts.values()])
    data = fit_to_window(lengths_N, targets_N, source_N, list(parts), planned, "rows here or simulated")
    rows = {name: len(part.lengths_N) for name, part in parts.items()}
    data = replace(data, mix=file_shares(drawn, sums_by_file(data, data.source_N, list(parts))))
    found = PlannedTraining(report=plan(planned, data=data), rows=rows, max_steps=loop.max_steps)
    return replace(found, notes=_asked(loop, found.steps, settings)) if loop.eval_tasks else found


def _asked(loop: LoopSettings, steps: int, settings: RunSettings) -> tuple[str, ...]:
    """What the tasks that are asked while training come to; they are not in its hours."""
    assert loop.eval_tasks is not None
    times = len({0, steps, *range(0, steps, loop.eval_task_steps or steps)})
    asks = plan_eval(loop.eval_tasks, models=times, window=loop.window)
    shape = model_shape(settings.model)
    hours = times * sum(_reading_s(shape, lengths, settings) for lengths in asks.prompt_tokens_N.values()) / 3600
    questions = sum(len(lengths) for lengths in asks.prompt_tokens_N.values())
    said = f"eval_tasks: {questions:,} questions {times:,} times; reading them takes {hours:.2g} h on one accelerator"
    return (said, *asks.notes)


def _plan_data(settings: DataSettings, out: Path, name: str) -> PlannedData:
    """Calls, tokens and money of one set: from its documents where they are here, else from a simulated corpus."""
    if is_here([*settings.documents, *settings.decontaminate]) and local_file(settings.tokenizer, "tokenizer.json"):
        from longalign.data.build import build
        from longalign.data.build_files import Paths

        folder = out / "data" / name
        with place_to_plan(folder) as place:
            counted = Paths.of(folder).work / "documents.sqlite"
            if place != folder and counted.exists():  # what was counted need not be counted again
                make_folder(Paths.of(place).work)
                shutil.copy(counted, Paths.of(place).work)
            found = build(settings, place, plan_only=True)
        return _spend(settings, "documents counted", found["plan"])
    band = _band(settings, DocumentLengths.of(settings).max)
    lengths = simulated_rows(name, rows=settings.rows, lengths=band, why="").lengths_N
    documents = [DocumentSummary(str(number), "en", int(length)) for number, length in enumerate(lengths)]
    basis = f"documents or tokenizer not here yet: taken to lie evenly in {band[0]:,}-{band[1]:,} tokens"
    return _spend(settings, basis, plan_build(documents, settings).as_dict())


def _spend(settings: DataSettings, basis: str, found: Mapping[str, Any]) -> PlannedData:
    return PlannedData(
        llm=settings.llm,
        basis=basis,
        rows=found.get("rows"),
        calls=found.get("calls"),
        prompt_tokens=found.get("prompt_tokens"),
        completion_tokens=found.get("completion_tokens"),
        cost_usd=found.get("cost_usd"),
    )


def _totals(
    settings: RunSettings, extend: Mapping[str, PlannedTraining], data: Mapping[str, PlannedData],
    arms: Mapping[str, PlannedTraining], evaluation: PlannedEval,
) -> Totals:  # fmt: skip
    """Hours of training over all seeds, and money where every price is known."""
    training = sum(row.hours for row in arms.values()) * len(settings.seeds)
    training += sum(row.hours for row in extend.values())
    costs = [row.cost_usd for row in data.values()] + [row.cost_usd for row in evaluation.plan.judge.values()]
    known = [cost for cost in costs if cost is not None]
    return Totals(
        training_hours=training,
        accelerator_hours=training * _ranks(settings) + evaluation.accelerator_hours,
        cost_usd=round(sum(known), 4) if len(known) == len(costs) else None,
    )


def _notes(found: RunPlan, source: RowSource) -> list[str]:
    notes = [f"{name}: {rows.basis}" for name, rows in source.found.items()]
    notes += [f"assume: `{name}` is read by nothing" for name in source.settings.assume if name not in source.found]
    notes += [f"data.{name}: {row.basis}" for name, row in found.data.items()]
    for where, row in found.trainings.items():
        notes += [f"{where}: {note}" for note in row.notes]
        if not row.report.memory.fits:
            notes.append(
                f"{where}: DOES NOT FIT into memory; raise sequence_parallel, or set cpu_offload, activation_offload "
                "or lora_rank"
            )
    notes += found.eval.plan.notes
    return [
        *notes,
        "hours: FLOPs at half of peak, traffic between accelerators and, under cpu_offload, to the host with updates "
        "there; updates on accelerators and generated tokens of evaluations are not in them",
    ]


def _band(settings: DataSettings, longest: int) -> tuple[int, int]:
    """Lengths that a set of documents is built for: the asked minimum or the paper's 8k, up to the limit."""
    shortest = settings.min_length_tokens or min(LONG_ROWS[0], max(longest // 8, 1))
    return min(shortest, longest), longest


def _ranks(settings: RunSettings) -> int:
    return settings.ranks or settings.processes_per_node


def _reading_s(shape: ModelShape, lengths: Any, settings: RunSettings) -> float:
    """Seconds that one accelerator reads prompts of these lengths: a forward pass is a third of a training pass."""
    machine = MACHINES[settings.machine]
    return float(shape.sequence_cost().flops(lengths).sum()) / 3 / (machine.peak_flops * machine.efficiency)
