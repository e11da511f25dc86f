"""Finds what runs have left behind: stage manifests, results, scores, metrics, plans. Reads files only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longalign.base.files import read_jsonl
from longalign.base.stage import MANIFEST, read_manifest
from longalign.errors import RunError
from longalign.eval.registry import TASKS, current_name
from longalign.eval.results import RESULTS, SCORES, read_results


@dataclass(frozen=True)
class Stage:
    """One stage folder. `place` is its path below the folder given to `report`."""

    folder: Path
    place: str
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["stage"])

    @property
    def task(self) -> str:
        """Today's name of the task it is, where it is an evaluation."""
        return current_name(self.name)

    @property
    def done(self) -> bool:
        return bool(self.manifest["status"] == "done")

    @property
    def started(self) -> str:
        return str(self.manifest.get("started_at") or "")

    @property
    def label(self) -> str:
        """Its name in tables: the evaluated model, or the path of the stage."""
        if self.results and "label" in self.results:
            return str(self.results["label"])
        return self.place

    @property
    def seed(self) -> Any:
        """The seed that tells repetitions of one label apart."""
        return self.results.get("model_seed") if self.results else self.manifest["settings"].get("seed")

    @cached_property
    def results(self) -> dict[str, Any] | None:
        path = self.folder / RESULTS
        return read_results(path) if path.exists() else None

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / SCORES)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "metrics.jsonl")


@dataclass(frozen=True)
class Findings:
    """Everything that was found, in the order in which stages were started."""

    folders: tuple[Path, ...]
    stages: tuple[Stage, ...]
    throughput: tuple[tuple[str, dict[str, Any]], ...]

    def named(self, name: str) -> list[Stage]:
        return [stage for stage in self.stages if stage.name == name]

    def tasks(self) -> list[str]:
        """Tasks that have results: those of this package in their order, then others."""
        found = dict.fromkeys(s.task for s in self.stages if s.results and "label" in s.results)
        return [*(name for name in TASKS if name in found), *(name for name in found if name not in TASKS)]

    def evaluated(self, task: str) -> dict[str, list[Stage]]:
        """Stages of a task that have results, by model label; several of one label are its seeds."""
        return by_label(stage for stage in self.stages if stage.task == task and stage.results)

    def is_judged(self, task: str) -> bool:
        """Whether a judge has rated the answers."""
        return any("judge" in (s.results or {}) for stages in self.evaluated(task).values() for s in stages)


def by_label(stages: Iterable[Stage]) -> dict[str, list[Stage]]:
    """Stages grouped by label, in order of first appearance."""
    groups: dict[str, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(stage.label, []).append(stage)
    return groups


def collect(folders: Sequence[Path], *, only: Collection[Path] | None = None) -> Findings:
    """Every stage at or below `folders`, apart from superseded ones; with `only`, those folders alone.

    `RunError` if there is none at all.
    """
    stages: dict[Path, Stage] = {}
    throughput = []
    for root in folders:
        if not root.is_dir():
            raise RunError(f"{root}: no such folder; give run or stage folders")
        for manifest in sorted(root.rglob(MANIFEST)):
            place = manifest.parent.relative_to(root)
            if only is not None and manifest.parent not in only:
                continue
            if "superseded" in place.parts or any(part.startswith(".") for part in place.parts):
                continue
            content = read_manifest(manifest.parent)
            if content:
                name = root.name if str(place) == "." else str(place)
                stages.setdefault(manifest.parent.resolve(), Stage(manifest.parent, name, content))
        for path in sorted(root.rglob("throughput/results.json")):
            if (only is None or path.parent in only) and (found := read_results(path)):
                throughput.append((str(path.parent.relative_to(root)), found))
    if not stages:
        raise RunError(f"{', '.join(map(str, folders))}: no {MANIFEST} below; nothing has been run there")
    ordered = sorted(stages.values(), key=lambda stage: (stage.started, stage.place))
    return Findings(tuple(folders), tuple(ordered), tuple(throughput))
