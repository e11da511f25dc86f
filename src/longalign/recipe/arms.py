"""The arms of a recipe: their settings, the rows they train on, and the folders of their stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longalign.base.progress import say
from longalign.base.sources import Named
from longalign.config import RunSettings, TrainSettings
from longalign.config.load import build, merge
from longalign.config.mix import Amount, MixSettings, counted, less
from longalign.errors import ConfigError, nearest
from longalign.eval.evaluate import task_folder
from longalign.eval.registry import tasks_of


def arm_settings(run: RunSettings, name: str, **fixed: Any) -> TrainSettings:
    """The settings of one training arm; `fixed` (model, seed, resolved data) wins over recipe and arm."""
    common = run.train.model_dump(exclude={"arms"}, exclude_unset=True)
    return build(TrainSettings, merge(common, run.train.arms[name]) | fixed, f"train.arms.{name}")


def check(settings: RunSettings, out: Path) -> None:
    """Raise `ConfigError` when an arm names rows that nothing holds, or rows that the window would cut unasked."""
    if settings.train.data and not settings.train.arms:
        raise ConfigError("train.data is set but no arm trains on it; name one, for example `arms: {all: {}}`")
    if settings.train.arms and not settings.seeds:
        raise ConfigError("seeds is empty, so no arm would be trained; give one at least, for example `seeds: [0]`")
    for arm in settings.train.arms:
        arm_settings(settings, arm, data=row_files(settings, arm, out))


def fit_arms(settings: RunSettings, built: dict[str, int]) -> tuple[RunSettings, list[str]]:
    """The recipe with arms that ask for no more rows than the documents gave, and what to tell the person about it.

    All arms shrink by one share, so that what differs between them stays what the recipe made differ.
    """
    drawn = {arm: _own_rows(settings, arm) for arm in settings.train.arms}
    short = {name: f"{rows} of {settings.data[name].rows} {name} rows" for name, rows in built.items()}
    wanted = [(name, n) for data in drawn.values() for name, a in data.items() if name in built and (n := counted(a))]
    share = min((built[name] / rows for name, rows in wanted), default=1.0)
    if share >= 1:
        return settings, []
    lacking = [short[name] for name in built if any(n == name and rows > built[name] for n, rows in wanted)]
    arms = {
        arm: settings.train.arms[arm]
        | {"data": {name: less(amount, share) if name in built else amount for name, amount in data.items()}}
        for arm, data in drawn.items()
    }
    note = f"the documents gave {' and '.join(lacking)}; every arm takes {share:.1%} of the built rows it names"
    say(f"note: {note}")
    return settings.model_copy(update={"train": settings.train.model_copy(update={"arms": arms})}), [note]


def stage_folders(settings: RunSettings, out: Path) -> set[Path]:
    """Where this recipe's stages lie; arms, seeds and tasks of an earlier recipe in the same folder stay out."""
    trained = [f"{arm}-seed{seed}" for arm in settings.train.arms for seed in settings.seeds]
    extended = ["extended"] if settings.extensions else []
    evaluated = [out / "eval" / label for label in ("base", *extended, *(f"sft-{name}" for name in trained))]
    tasks = [task.name for task in tasks_of(settings.eval)]
    stages = {out / name for name in extension_names(settings)}
    stages |= {out / "throughput"} if settings.throughput_rows else set()
    stages |= {out / "train" / name for name in trained}
    stages |= {rows_file(out, name).parent for name in settings.data}
    if len(tasks) == 1:
        return stages | set(evaluated)
    return stages | {task_folder(folder, name) for folder in evaluated for name in tasks}


def extension_names(settings: RunSettings) -> list[str]:
    """Folders of the stages of `extend`: `extend`, `extend-2`, ...; one that is added moves none of the others."""
    return ["extend" if number == 1 else f"extend-{number}" for number in range(1, len(settings.extensions) + 1)]


def _own_rows(settings: RunSettings, arm: str) -> dict[str, Amount]:
    """What an arm says of rows, or what all arms share. Raises `ConfigError` for what cannot be read."""
    own = settings.train.arms[arm]
    if "data" not in own:
        return settings.train.data
    return build(MixSettings, {"data": own["data"]}, f"train.arms.{arm}").data


def arm_rows(settings: RunSettings, arm: str) -> dict[str, Amount]:
    """The sets and files that an arm trains on, and how much of each; whether files are there is not asked.

    Raises `ConfigError` for an arm without rows, and for a set whose rows the arm's window would cut unasked.
    """
    wanted = _own_rows(settings, arm)
    if not wanted:
        raise ConfigError(f"train.arms.{arm}: no `data`; name sets of the `data` section or files, each with a count")
    found = arm_settings(settings, arm, data=wanted)
    for name in wanted:
        longest = settings.data[name].max_length_tokens if name in settings.data else 0
        if longest > found.window and "overlong" not in found.model_fields_set:
            raise ConfigError(
                f"data.{name}.max_length_tokens = {longest} is above the window of train.arms.{arm} "
                f"({found.window}), which would cut its rows; change one, or set train.overlong to say how to cut"
            )
    return wanted


def row_files(settings: RunSettings, arm: str, out: Path) -> dict[str, Amount]:
    """The rows of an arm: names of built sets become their files; other names must be files or bundled rows."""
    found: dict[str, Amount] = {}
    for name, rows in arm_rows(settings, arm).items():
        if name in settings.data:
            found[str(rows_file(out, name))] = rows
        elif Named(name).here:
            found[name] = rows
        else:
            raise no_rows(settings, arm, name)
    return found


def no_rows(settings: RunSettings, arm: str, name: str) -> ConfigError:
    """The complaint about a name in an arm's `data` that nothing stands behind."""
    hint = nearest(name, list(settings.data))
    return ConfigError(f"train.arms.{arm}.data: `{name}` is no set of the `data` section and no file{hint}")


def rows_file(out: Path, name: str) -> Path:
    return out / "data" / name / "rows.jsonl"
