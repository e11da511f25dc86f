"""What `import longalign` offers: complete, typed, documented, and free until it is used."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import longalign
from longalign import errors
from tests.test_imports import HEAVY

ROOT = Path(__file__).parents[1]
FRONT = ROOT / "src" / "longalign" / "__init__.py"
LIGHT = """
import longalign
plan = longalign.plan_steps([3, 4], window=8, sequences_per_step=2, strategy="balanced")
longalign.replan(plan, ranks=2)[0].weights()
longalign.sequence_weights([1, 2])
longalign.mean_interval([1.0, 2.0])
longalign.TrainSettings(window=64), longalign.ConfigError, longalign.TokenSequence, longalign.TokenStore
longalign.train_model, longalign.evaluate, longalign.compare, longalign.write_report
longalign.model_dir("builtin:tiny-base")
dir(longalign)
"""
TYPED = """
from typing import assert_type
import longalign
from longalign import Interval, PackedDataset, StepPlan, TokenSequence, TrainSettings

plan = longalign.plan_steps([3, 4], window=8, sequences_per_step=2, strategy="balanced")
assert_type(plan, StepPlan)
assert_type(longalign.mean_interval([1.0]), Interval)
assert_type(longalign.PACKED_ATTENTION, str)

def size(sequences: list[TokenSequence]) -> int:
    return len(PackedDataset(sequences, plan))

longalign.register_packed_attention()
longalign.train_model(TrainSettings(window=64), "runs/x")
longalign.plan_steps([3, 4], window=8, sequences_per_step=2, strategy=3)  # must be refused
longalign.plan_step  # must be refused
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def names_for_types() -> set[str]:
    """What the TYPE_CHECKING block imports."""
    for node in ast.parse(FRONT.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If):
            return {alias.asname or alias.name for part in node.body for alias in getattr(part, "names", ())}
    raise AssertionError("no TYPE_CHECKING block")


def test_planning_statistics_settings_and_errors_load_nothing_heavy() -> None:
    assert run(f"{LIGHT}\nimport sys; print(sorted({HEAVY!r} & set(sys.modules)))") == "[]"


def test_the_import_itself_loads_not_even_numpy() -> None:
    assert run("import longalign, sys; print('numpy' in sys.modules, 'pydantic' in sys.modules)") == "False False"


def test_every_public_name_is_there_listed_and_typed() -> None:
    assert sorted(longalign.__all__) == sorted(names_for_types() | {"__version__"})
    assert set(longalign.__all__) <= set(dir(longalign))
    assert len(set(longalign.__all__)) == len(longalign.__all__)
    for name in longalign.__all__:
        assert getattr(longalign, name) is getattr(longalign, name) is not None
    everything: dict[str, Any] = {}
    exec("from longalign import *", everything)
    assert set(longalign.__all__) <= set(everything)


@pytest.mark.parametrize("name", sorted(set(longalign.__all__) - {"__version__", "PACKED_ATTENTION"}))
def test_every_public_name_explains_itself(name: str) -> None:
    found: Any = getattr(longalign, name)
    assert inspect.getdoc(found)
    if inspect.isfunction(found):
        hints = set(found.__annotations__)
        parameters = set(inspect.signature(found).parameters)
        assert hints >= parameters | {"return"}, f"{name} is not typed: {parameters - hints}"


def test_the_overview_and_the_guide_name_everything() -> None:
    """The docstring groups all functions and classes; settings, results and errors stand for themselves."""
    told = set(re.findall(r"`(\w+)`", longalign.__doc__ or ""))
    apart = {n for n in longalign.__all__ if n.endswith(("Settings", "Error"))}
    results = {"Interval", "PairedComparison", "RankCorrelation", "__version__"}
    assert set(longalign.__all__) - apart - results - told == set()
    guide = (ROOT / "docs" / "guide" / "python.md").read_text(encoding="utf-8")
    named = set(re.findall(r"longalign\.(\w+)", guide)) - {"errors", "train", "plan", "report"}
    assert named <= set(longalign.__all__)


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(AttributeError, match=r"no attribute `plan_step` \(did you mean `plan_steps`\?\)"):
        _ = longalign.plan_step
    with pytest.raises(AttributeError, match=r"no attribute `zzz`$"):
        _ = longalign.zzz
    with pytest.raises(ImportError, match="sequence_weight"):
        from longalign import sequence_weight  # noqa: F401


def test_verbs_named_like_packages_stay_packages() -> None:
    """Otherwise what `longalign.train` is would depend on what was imported before."""
    import longalign.train.sft

    assert longalign.train.__name__ == "longalign.train"
    assert not {"train", "plan", "report", "data", "eval"} & set(longalign.__all__)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn: list[tuple[str, str]] = []
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ((?:[│ ]   )*)(?:[├└]── )?(\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4 + ("──" in line)
            path[depth:] = [found[2]]
            drawn.append((found[2], path[depth - 1] if depth else "Exception"))
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.LongAlignError)]
    assert sorted(drawn) == sorted((c.__name__, c.__bases__[0].__name__) for c in classes)
    assert {name for name, _ in drawn} <= set(longalign.__all__)


def test_stages_take_plain_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(longalign.RunError):
        longalign.write_report("nothing", "page.html")
    with pytest.raises(longalign.RunError):
        longalign.compare("one", "two")
    with pytest.raises(longalign.ConfigError, match="nothing to evaluate"):
        longalign.evaluate(longalign.EvalSettings(), "runs")
    settings = longalign.DataSettings(documents=("builtin:chinese",), rows=4, min_length_tokens=90)
    assert longalign.build_rows(settings, "rows.jsonl", plan_only=True)["text"]


def test_the_types_travel_with_the_package() -> None:
    assert files("longalign").joinpath("py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8"), "the wheel has it too"


@pytest.mark.slow
def test_a_type_checker_sees_the_types(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(TYPED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*command, str(tmp_path / "user.py")], cwd=ROOT, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(complaints) == 2, done.stdout
    assert 'argument "strategy"' in complaints[0].lower()
    assert 'has no attribute "plan_step"' in complaints[1]
