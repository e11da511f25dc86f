"""ARC, HellaSwag, TruthfulQA, MMLU through lm-evaluation-harness, with Open LLM Leaderboard settings (paper, Table 3).

The harness is an optional extra and fetches its data sets itself, with the user's own access; nothing of them ships
here. Each task is run once and kept; scores are stored question by question, so two models are compared in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from longalign.base.files import atomic_write_json
from longalign.config import EvalSettings, LeaderboardSettings
from longalign.core.stats import mean_interval
from longalign.errors import ConfigError, ModelError
from longalign.eval.results import Compared, Measured, ModelFacts, Row, rounded
from longalign.eval.subject import resolve
from longalign.eval.task import Cost, Reads, Task, shown
from longalign.llm.open import is_endpoint

METRICS = {"arc_challenge": "acc_norm", "hellaswag": "acc_norm", "truthfulqa_mc2": "acc", "mmlu": "acc"}
USUAL_METRICS = ("acc_norm", "acc", "exact_match")


@dataclass(frozen=True, kw_only=True)
class HarnessTask:
    """One task of the harness: mean of its metric over questions with its interval. `shots`: examples shown."""

    metric: str
    shots: int | None
    questions: int
    accuracy: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class LeaderboardResults:
    """The harness's tasks, its version, and the limit on questions (None: all of them)."""

    harness: str
    limit: int | None
    tasks: dict[str, HarnessTask]


class Leaderboard(Task[LeaderboardSettings]):
    """Task `leaderboard`: each task of the harness is run once and its raw scores kept in a file of its own."""

    name = "leaderboard"
    title = "lm-evaluation-harness"
    settings_class = LeaderboardSettings
    compared = Compared()
    listed = "tasks"

    def reads(self) -> Reads:
        return Reads(files={"include_path": [self.settings.include_path] if self.settings.include_path else []})

    def measure(self, model: EvalSettings, out: Path) -> Measured:
        """Raises `ConfigError` for endpoints (they give no likelihoods of given answers) and without the extra."""
        wanted = self.settings
        if is_endpoint(model.model) or model.model.startswith("offline"):
            raise ConfigError("the leaderboard tasks need likelihoods of given answers; use a local model directory")
        rows: list[Row] = []
        for name, shots in wanted.tasks.items():
            kept = out / f"{name.replace('/', '-')}.json"
            if not kept.exists():
                atomic_write_json(kept, run_harness(model, wanted, name, shots))
            rows += json.loads(kept.read_text(encoding="utf-8"))
        figures = LeaderboardResults(
            harness=harness_version(),
            limit=wanted.limit,
            tasks={
                name: tally([row for row in rows if row["kind"] == name], shots) for name, shots in wanted.tasks.items()
            },
        )
        return Measured(rows=rows, figures=figures, model=ModelFacts(Path(resolve(model.model)).name))

    def cost(self, window: int) -> Cost:
        return Cost(notes=("eval.leaderboard: lm-evaluation-harness fetches its own tasks; not counted here",))

    @classmethod
    def lines(cls, results: Mapping[str, Any]) -> list[str]:
        lines = [f"lm-evaluation-harness {results['harness']} on {results['label']}"]
        for name, row in results["tasks"].items():
            asked = f"{row['metric']}, {row['shots']} shots, {row['questions']} questions"
            lines.append(f"{name:>16} {shown(row)} {asked}")
        limit = results["limit"]
        return lines + ([f"note: only the first {limit} questions of each task"] if limit else [])


def run_harness(model: EvalSettings, wanted: LeaderboardSettings, name: str, shots: int | None) -> list[Row]:
    """One row a question: `{key, question (hash), kind, metric, score}`."""
    try:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError(
            f"lm-evaluation-harness is not installed ({error}): pip install 'longalign[leaderboard]'"
        ) from None
    import torch

    manager = TaskManager(include_path=wanted.include_path)
    if name not in manager.all_tasks:
        raise ConfigError(f"lm-evaluation-harness has no task `{name}`; list them with `lm-eval ls tasks`")
    try:
        found = simple_evaluate(
            model="hf",
            model_args={
                "pretrained": resolve(model.model),
                "trust_remote_code": model.trust_remote_code,
                "dtype": wanted.dtype,
            },
            tasks=[name],
            num_fewshot=shots,
            batch_size=wanted.batch_size,
            device="cuda" if torch.cuda.is_available() else "cpu",
            limit=wanted.limit,
            bootstrap_iters=0,
            log_samples=True,
            task_manager=manager,
            random_seed=wanted.seed,
            fewshot_random_seed=wanted.seed,
        )
    except (OSError, ConnectionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"task `{name}` or the model cannot be loaded ({reason}); the harness fetches its own data"
        ) from None
    samples = cast(dict[str, list[dict[str, Any]]], found["samples"])
    return [row for part in sorted(samples) for row in rows_of(name, part, samples[part])]


def rows_of(name: str, part: str, samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Questions of one (sub)task in the order of its documents, with the metric the leaderboard counts."""
    rows = []
    for sample in sorted(samples, key=lambda sample: sample["doc_id"]):
        metric = METRICS.get(name) or next((m for m in USUAL_METRICS if m in sample), sample["metrics"][0])
        rows.append(
            {
                "key": f"{part}/{sample['doc_id']}",
                "question": sample["doc_hash"],
                "kind": name,
                "metric": metric,
                "score": float(sample[metric]),
            }
        )
    return rows


def tally(rows: Sequence[Row], shots: int | None) -> HarnessTask:
    """Mean over questions with its interval."""
    scores = [row["score"] for row in rows]
    interval = mean_interval(scores, scale=(0, 1) if all(0 <= score <= 1 for score in scores) else None)
    return HarnessTask(
        metric=rows[0]["metric"],
        shots=shots,
        questions=len(rows),
        accuracy=round(interval.estimate, 6),
        low=rounded(interval.low),
        high=rounded(interval.high),
    )


def harness_version() -> str:
    """The installed harness; scores of different versions are not always comparable."""
    from importlib import metadata

    return metadata.version("lm_eval")
