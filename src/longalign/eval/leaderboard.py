"""ARC, HellaSwag, TruthfulQA, MMLU through lm-evaluation-harness, with Open LLM Leaderboard settings (paper, Table 3).

The harness is an optional extra and fetches its data sets itself, with the user's own access; nothing of them ships
here. Each task is run once and kept; scores are stored question by question, so two models are compared in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from longalign.base.files import atomic_write_json, atomic_write_text
from longalign.base.stage import open_stage
from longalign.config import EvalSettings, LeaderboardSettings
from longalign.core.stats import mean_interval
from longalign.errors import ConfigError, ModelError
from longalign.eval.subject import alone, files_fingerprint, model_fingerprint, resolve
from longalign.eval.task import RESULTS, SCORES
from longalign.llm.open import is_endpoint

VERSION = 1
METRICS = {"arc_challenge": "acc_norm", "hellaswag": "acc_norm", "truthfulqa_mc2": "acc", "mmlu": "acc"}
USUAL_METRICS = ("acc_norm", "acc", "exact_match")


def leaderboard(settings: EvalSettings, out: Path) -> dict[str, Any]:
    """Stage `leaderboard`: one file of raw scores a task, `scores.jsonl` and `results.json`; returns the results.

    Raises `ConfigError` for endpoints (they give no likelihoods of given answers) and without the extra.
    """
    wanted = settings.leaderboard or LeaderboardSettings()
    settings = alone(settings, "leaderboard", wanted)
    if is_endpoint(settings.model) or settings.model.startswith("offline"):
        raise ConfigError("the leaderboard tasks need likelihoods of given answers; use a local model directory")
    inputs = {"model": model_fingerprint(settings)}
    if wanted.include_path:
        inputs["tasks"] = files_fingerprint([wanted.include_path])
    with open_stage(out, "leaderboard", settings=settings, inputs=inputs, version=VERSION) as stage:
        if stage.done:
            return stage.summary
        rows: list[dict[str, Any]] = []
        for name, shots in wanted.tasks.items():
            kept = out / f"{name.replace('/', '-')}.json"
            if not kept.exists():
                atomic_write_json(kept, run_task(settings, wanted, name, shots))
            rows += json.loads(kept.read_text(encoding="utf-8"))
        results = {
            "task": "leaderboard",
            "label": settings.label or Path(resolve(settings.model)).name,
            "model_seed": settings.model_seed,
            "harness": harness_version(),
            "limit": wanted.limit,
            "tasks": {
                name: tally([row for row in rows if row["kind"] == name], shots) for name, shots in wanted.tasks.items()
            },
        }
        atomic_write_text(out / SCORES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        atomic_write_json(out / RESULTS, results)
        return stage.finish(results)


def run_task(settings: EvalSettings, wanted: LeaderboardSettings, name: str, shots: int | None) -> list[dict[str, Any]]:
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
                "pretrained": resolve(settings.model),
                "trust_remote_code": settings.trust_remote_code,
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


def tally(rows: Sequence[dict[str, Any]], shots: int | None) -> dict[str, Any]:
    """Mean over questions with a t-interval."""
    interval = mean_interval([row["score"] for row in rows])
    return {
        "metric": rows[0]["metric"],
        "shots": shots,
        "questions": len(rows),
        "accuracy": round(interval.estimate, 6),
        "low": None if interval.low is None else round(interval.low, 6),
        "high": None if interval.high is None else round(interval.high, 6),
    }


def harness_version() -> str:
    """The installed harness; scores of different versions are not always comparable."""
    from importlib import metadata

    return metadata.version("lm_eval")
