"""The stages of the recipe as functions: settings in, files of results out, the summary back.

Each function does what the verb of the same stage does on the command line. Called again with the same settings, it
returns at once; after a kill, it continues. Settings are frozen and checked when they are created
(`longalign.TrainSettings(...)`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longalign.config import DataSettings, EvalSettings, ExtendSettings, PlanSettings, TrainSettings
    from longalign.plan.figures import PlanReport


def build_rows(settings: DataSettings, out: Path | str, *, plan_only: bool = False) -> dict[str, Any]:
    """Build long instruction rows from documents (`longalign data build`) into the file `out`, a .jsonl.

    Returns the report. With `plan_only` it returns the predicted calls and cost, and calls no model. Raises
    `DataError` when no row can be built, `EndpointError` when the language model cannot be reached.
    """
    from longalign.data.build import build

    return build(settings, Path(out), plan_only=plan_only)


def extend_model(
    settings: ExtendSettings, out: Path | str, *, plan_only: bool = False, restart: bool = False
) -> dict[str, Any]:
    """Stretch RoPE and train on long text (`longalign extend`); writes the model to `out/final`.

    `restart` allows checkpoints of other settings to be set aside. Returns the summary; with `plan_only` it returns
    the plan's report and trains nothing. Under torchrun every rank calls it.
    Raises `ModelError` for a model that cannot be trained exactly, `DataError` naming the document that cannot be used.
    """
    from longalign.train.extend import extend

    return extend(settings, Path(out), plan_only=plan_only, restart=restart)


def train_model(
    settings: TrainSettings, out: Path | str, *, plan_only: bool = False, restart: bool = False
) -> dict[str, Any]:
    """Fine-tune on conversations (`longalign train`); writes the model to `out/final`.

    `restart` allows checkpoints of other settings to be set aside. Returns the summary; with `plan_only` it returns
    the plan's report and trains nothing. Under torchrun every rank calls it.
    Raises `ModelError` for a model that cannot be trained exactly, `DataError` naming the row that cannot be used.
    """
    from longalign.train.sft import train

    return train(settings, Path(out), plan_only=plan_only, restart=restart)


def plan_run(settings: PlanSettings, out: Path | str | None = None) -> PlanReport:
    """Steps, packs, idle time, hours and memory of a run (`longalign plan`), from lengths alone.

    With `out` the plan, the report and a picture are written there. Raises `DataError` for unreadable lengths,
    `PlanError` when no plan satisfies the settings.
    """
    from longalign.plan.report import plan

    return plan(settings, None if out is None else Path(out))


def evaluate(settings: EvalSettings, out: Path | str) -> dict[str, Any]:
    """Evaluate `settings.model` on every task in `settings` (`longalign eval`); writes answers and scores to `out`.

    Returns the results; `text` is for people. Raises `ConfigError` when no task is set, `ModelError` or
    `EndpointError` when the model cannot be opened or reached.
    """
    from longalign.eval.evaluate import evaluate as run

    return run(settings, Path(out))


def compare(a: Path | str, b: Path | str, out: Path | str | None = None) -> dict[str, Any]:
    """Compare two models on the same questions, from the folders that `evaluate` wrote (`longalign eval compare`).

    `b` is the one that may be better. Returns differences with intervals and p-values for all questions and by group;
    `text` is for people. With `out` the comparison is written there. Raises `DataError` for different tasks or
    no common question.
    """
    from longalign.eval.compare import compare as run

    return run(Path(a), Path(b), None if out is None else Path(out))


def write_report(folders: Path | str | Sequence[Path | str], page: Path | str) -> dict[str, Any]:
    """One self-contained HTML page about all stages in or below `folders` (`longalign report`).

    Returns the page's path, its first sentence (`verdict`) and what is missing. Raises `RunError` if there is no
    stage at all or a result file is damaged.
    """
    from longalign.report.page import report

    named = [folders] if isinstance(folders, (Path, str)) else folders
    return report([Path(folder) for folder in named], Path(page))
