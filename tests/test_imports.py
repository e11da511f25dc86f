"""Imports run one way, without circles, and light commands stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "longalign"
LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("recipe",),
    ("report", "train"),
    ("plan", "eval"),
    ("data",),
    ("llm",),
    ("bundled",),
    ("core", "config", "base"),
    ("errors",),
)
HEIGHT = {room: -number for number, rooms in enumerate(LAYERS) for room in rooms}
BESIDE = {"config": {"core", "base"}, "base": {"core"}}  # in the lowest layer but one, who may use whom
DOORS = {"__init__", "__main__"}  # the package's own front: they may name any room
HEAVY = {"torch", "transformers", "accelerate", "peft", "openai", "datasets"}
MOST_LINES = 300


def dotted(path: Path) -> str:
    """`core.rope` of a file, `core` of its `__init__.py`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {dotted(path): path for path in SOURCE.rglob("*.py")}


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, wherever the import stands: also late ones and those for types only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """File -> files of this package that it imports."""
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        for imported in imports(path):
            place = imported.removeprefix("longalign.")
            if place == imported:
                continue
            while place and place not in files:
                place = place.rpartition(".")[0]
            if place and place != name:
                found[name].add(place)
    return found


def climbs(arrows: Mapping[str, set[str]]) -> list[str]:
    """Imports that run up, or across to a room beside."""
    wrong = []
    for file, imported in arrows.items():
        here = file.split(".")[0]
        if here in DOORS:
            continue
        for other in imported:
            there = other.split(".")[0]
            allowed = here == there or HEIGHT[there] < HEIGHT[here] or there in BESIDE.get(here, ())
            if not allowed:
                wrong.append(f"{file} imports {other}")
    return sorted(wrong)


def circle(arrows: Mapping[str, set[str]]) -> list[str]:
    """Files that import each other in a ring, or nothing."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_a_place_in_the_order() -> None:
    rooms = {name.split(".")[0] for name in FILES} - DOORS
    assert rooms == set(HEIGHT)


def test_imports_run_one_way() -> None:
    assert climbs(graph(FILES)) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    arrows = graph(FILES)
    assert circle(arrows | {name: set() for name in DOORS}) == []


def test_an_arrow_back_and_a_circle_would_be_seen() -> None:
    assert climbs({"core.order": {"train.loss"}}) == ["core.order imports train.loss"]
    assert climbs({"report.page": {"report.words", "train.loss"}}) == ["report.page imports train.loss"]
    assert circle({"core.order": {"core.packing"}, "core.packing": {"core.order"}})


def test_core_needs_numpy_scipy_and_the_standard_library_only() -> None:
    for path in (SOURCE / "core").rglob("*.py"):
        for name in imports(path):
            root = name.split(".")[0]
            assert root in {"longalign", "numpy", "scipy"} | sys.stdlib_module_names, f"{path.name} imports {name}"


def test_the_report_never_imports_torch() -> None:
    for path in (SOURCE / "report").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"torch", "transformers"}, path.name


def test_a_file_fits_in_the_head() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import longalign.cli",
        "from longalign import plan_steps, sequence_weights",
        "import longalign.report.page",
        "from longalign.config.load import load_run",
        "import longalign.plan.report",
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
