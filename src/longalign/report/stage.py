"""A stage folder as the page reads it: manifest, results, scores, and which model it is about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from longalign.base.files import read_jsonl
from longalign.eval.compare import compared_by
from longalign.eval.failed import Failed, as_wrong, count_as_wrong
from longalign.eval.registry import current_name
from longalign.eval.results import RESULTS, SCORES, read_results
from longalign.report.isolate import inline


@dataclass(frozen=True)
class Stage:
    """One stage folder. `place` is its path below the folder given to `report`; `failed` says how failures count."""

    folder: Path
    place: str
    manifest: dict[str, Any]
    failed: Failed = "left_out"

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
            return inline(str(self.results["label"]))
        return self.place

    @property
    def seed(self) -> Any:
        """The seed that tells repetitions of one label apart."""
        return self.results.get("model_seed") if self.results else self.manifest["settings"].get("seed")

    @property
    def identity(self) -> str:
        """Which model it is: from the results, or from the manifest of older ones; empty where unknown."""
        written = (self.results or {}).get("identity") or (self.manifest.get("inputs") or {}).get("model")
        return str(written or "")

    @property
    def model(self) -> str:
        """The model's name in the results."""
        return inline(str((self.results or {}).get("model") or self.spec))

    @property
    def spec(self) -> str:
        """The model as it was asked for."""
        return inline(str((self.manifest.get("settings") or {}).get("model")))

    @property
    def asked(self) -> str:
        """Stands for the questions: the same for stages that asked one model the same."""
        return str(self.manifest.get("fingerprint"))

    @cached_property
    def results(self) -> dict[str, Any] | None:
        path = self.folder / RESULTS
        found = read_results(path) if path.exists() else None
        if found and self.failed == "wrong" and "label" in found and (self.folder / SCORES).exists():
            return count_as_wrong(found, read_jsonl(self.folder / SCORES), compared_by(found))
        return found

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """The rows; `failed` decides about those without an answer."""
        rows = read_jsonl(self.folder / SCORES)
        return [as_wrong(row, compared_by(self.results or {})) for row in rows] if self.failed == "wrong" else rows

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return read_jsonl(self.folder / "metrics.jsonl")
