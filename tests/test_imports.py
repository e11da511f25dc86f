"""Which module may import which: cli -> stages -> core, and light commands stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "longalign"
LAYERS = {
    "core": {"core", "errors"},
    "report": {"report", "eval", "core", "errors", "run", "machine", "progress"},
    "llm": {"llm", "core", "data", "errors", "run", "progress", "config", "builtin", "train"},
}
HEAVY = {"torch", "transformers", "accelerate", "peft", "openai", "datasets"}


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports, outside `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(tree.body) if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_lies_below_it(layer: str) -> None:
    for path in (SOURCE / layer).rglob("*.py"):
        for name in imports(path):
            if name.startswith("longalign."):
                assert name.split(".")[1] in LAYERS[layer], f"{path.name} imports {name}"


def test_core_needs_numpy_scipy_and_the_standard_library_only() -> None:
    for path in (SOURCE / "core").rglob("*.py"):
        for name in imports(path):
            root = name.split(".")[0]
            assert root in {"longalign", "numpy", "scipy"} | sys.stdlib_module_names, f"{path.name} imports {name}"


@pytest.mark.parametrize(
    "code",
    [
        "import longalign.cli",
        "from longalign import plan_steps, sequence_weights",
        "import longalign.report.page",
        "from longalign.recipe import load_run",
        "import longalign.plan",
    ],
)
def test_light_commands_load_nothing_heavy(code: str) -> None:
    check = f"{code}; import sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_public_names_are_there() -> None:
    import longalign

    for name in longalign.__all__:
        assert getattr(longalign, name) is not None
    with pytest.raises(AttributeError, match="no attribute `nothing`"):
        _ = longalign.nothing
