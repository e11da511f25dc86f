"""The README says what was measured and what the code is, letter by letter; its map leads to what is there."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from benchmarks import ingest
from benchmarks.demo import README, RESULT, claim, quote, read

from longalign.recipe.run import run

ROOT = README.parent
SOURCE = ROOT / "src" / "longalign"
GUIDES = ROOT / "docs" / "guide"
TEXT = README.read_text(encoding="utf-8")
STATIONS = ["documents", "rows", "tokens", "plan", "checkpoints", "final", "answers", "page"]


def block(first_line: str, text: str = TEXT) -> list[str]:
    """The lines of the code block that begins with this word."""
    [found] = re.findall(rf"^```\w*\n({re.escape(first_line)}.*?)^```", text, re.M | re.S)
    return str(found).splitlines()


def tree(lines: list[str]) -> Iterator[Path]:
    """The paths of an indented tree, below the repository."""
    above: list[tuple[int, Path]] = [(-1, ROOT)]
    for line in lines:
        depth, name = len(line) - len(line.lstrip()), line.split()[0]
        while above[-1][0] >= depth:
            above.pop()
        above.append((depth, above[-1][1] / name))
        yield above[-1][1]


def test_the_claim_is_the_committed_result() -> None:
    assert quote(claim(read(RESULT)), TEXT) == TEXT


def test_the_guides_claim_on_ingest_is_the_committed_result() -> None:
    guide = ingest.GUIDE.read_text(encoding="utf-8")
    assert quote(ingest.claim(read(ingest.RESULTS / "ingest.json")), guide, ingest.COMMAND) == guide


def test_the_tree_names_every_folder_and_loose_file_of_the_source_and_nothing_else() -> None:
    named = list(tree(block("src/longalign/")))
    assert [path for path in named if not path.exists()] == []
    files = [path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path for path in named if path.is_dir()} == {folder for file in files for folder in _up(file)}
    assert {path for path in named if path.is_file()} == set(SOURCE.glob("[!_]*.py"))


def _up(file: Path) -> list[Path]:
    """The folders of a file, up to the package."""
    return [folder for folder in file.parents if folder == SOURCE or SOURCE in folder.parents]


def test_the_spine_is_the_end_of_the_code() -> None:
    spine = textwrap.indent("\n".join(block("start = ")), " " * 8)
    code = inspect.getsource(run).rstrip()
    assert code.endswith(spine), f"README.md quotes other lines than recipe/run.py, which ends with\n{code[-900:]}"


def test_the_drawing_names_each_station_in_order_and_source_files_that_exist() -> None:
    lines = block("documents ")
    assert [line.split()[0] for line in lines[::2]] == STATIONS
    sources = [line.split()[1] for line in lines[1::2]]
    assert len(sources) == len(STATIONS) - 1
    assert [name for name in sources if not (ROOT / name).is_file()] == []


def test_every_guide_is_linked() -> None:
    linked = set(re.findall(r"\]\((docs/guide/[\w-]+\.md)\)", TEXT))
    assert linked == {str(page.relative_to(ROOT)) for page in GUIDES.glob("*.md")}


def test_two_commands_set_it_up() -> None:
    assert [line.split()[:2] for line in block("make demo")] == [["make", "demo"], ["make", "test"]]
