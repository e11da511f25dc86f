"""Which results belong to one row: the seeds of one model, never two models that happen to share a label.

A label stands for one model, trained with one seed or several. Results of one label are averaged only where
`model_seed` is set and differs. What else shares a label gets a row of its own with a suffix, and a note says so. The
same questions to the same model count once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from longalign.report.stage import Stage


@dataclass
class Systems:
    """The row of each stage, by folder (none: its questions are another stage's), and what the reader must know."""

    rows: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def name_systems(stages: Iterable[Stage]) -> Systems:
    """Rows of evaluations, in the order in which they were started."""
    labels: dict[str, list[Stage]] = {}
    for stage in stages:
        labels.setdefault(stage.label, []).append(stage)
    found = Systems()
    for label, owned in labels.items():
        for name, seeds in _models(label, owned, found.notes).items():
            _name_each(name, seeds, found)
    return found


def _models(label: str, stages: Sequence[Stage], notes: list[str]) -> dict[str, list[Stage]]:
    """The stages of a label by model: all together where each has a seed of its own."""
    identities: dict[str, list[Stage]] = {}
    for stage in stages:
        identities.setdefault(stage.identity, []).append(stage)
    if unknown := identities.pop("", []):  # nothing says that it is another model
        identities.setdefault(next(iter(identities), ""), []).extend(unknown)
    seeds = [{stage.seed for stage in owned if stage.seed is not None} for owned in identities.values()]
    if len(identities) < 2 or (all(seeds) and len(set().union(*seeds)) == sum(map(len, seeds))):
        return {label: list(stages)}
    firsts = [owned[0] for owned in identities.values()]
    for names in ([stage.model for stage in firsts], [stage.spec for stage in firsts]):
        if len(set(names)) == len(identities):
            break
    else:
        names = [identity[:8] for identity in identities]
    notes.append(
        f"`{label}` names {len(identities)} different models, so each has rows of its own ({', '.join(names)}); "
        "evaluate them under labels of their own, or give seeds of one model a model_seed each"
    )
    return {f"{label} ({name})": owned for name, owned in zip(names, identities.values(), strict=True)}


def _name_each(name: str, stages: Sequence[Stage], found: Systems) -> None:
    """Give the stages of one model their rows: what asks other questions than the first gets its own."""
    known = {stage.identity: stage.seed for stage in stages if stage.seed is not None}
    runs: dict[tuple[str, str, object], list[Stage]] = {}
    for stage in stages:
        seed = known.get(stage.identity) if stage.seed is None else stage.seed
        runs.setdefault((stage.task, stage.identity, seed), []).append(stage)
    for (task, _, _), owned in runs.items():
        asked = {stage.asked: stage for stage in owned}  # the latest of each
        first = owned[0].asked
        for what, stage in asked.items():
            found.rows[str(stage.folder)] = name if what == first else f"{name}, {stage.place}"
        if again := len(owned) - len(asked):
            places = ", ".join(s.place for s in owned if s not in asked.values())
            found.notes.append(f"{name} was asked the questions of {task} {again + 1} times; left out: {places}")
        if len(asked) > 1:
            found.notes.append(f"{name} was asked different questions of {task}; each set has its own row")
