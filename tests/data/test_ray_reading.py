"""A folder read on a Ray cluster gives what reading it here gives: documents and reasons, in the same order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from longalign.base.ray_cluster import connect, ray_session, spread
from longalign.data import ray_reading
from longalign.data.documents import Document, Reading, Skipped, documents_at
from longalign.data.readers import READERS, RawDocument
from longalign.data.worker_pool import FileLimits
from longalign.errors import ConfigError, RunError
from tests.makers.text import prose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    with ray_session():
        yield connect(None)


def read(root: Path, how: Reading) -> tuple[list[Document], list[Skipped]]:
    skipped: list[Skipped] = []
    return list(documents_at(root, skipped, how)), skipped


def both(root: Path, **limits: float) -> tuple[list[Document], list[Skipped]]:
    """What both ways of reading give."""
    here = Reading(limits=FileLimits(**limits))  # type: ignore[arg-type]
    found, skipped = read(root, here)
    there = Reading(limits=here.limits, files=partial(ray_reading.read_files_in_ray, address=None))
    assert read(root, there) == (found, skipped)
    return found, skipped


@pytest.mark.usefixtures("ray")
def test_real_files_of_18_kinds_give_the_same_documents_and_reasons(tmp_path: Path) -> None:
    from tests.makers.real_files import real_files

    for number, file in enumerate(real_files()):
        (tmp_path / f"{number:03d}").mkdir()
        shutil.copy(file.path, tmp_path / f"{number:03d}" / file.path.name)
    found, _ = both(tmp_path)
    assert len(found) >= 60
    assert len({document.language for document in found}) > 5


@pytest.mark.usefixtures("ray")
def test_order_and_reasons_hold_over_rows_repositories_and_bad_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(70):
        (tmp_path / f"{number:02}.txt").write_text(prose(number, 3))
        (tmp_path / f"{number:02}.xyz").write_bytes(bytes(range(256)) if number % 3 else b"")
    with zipfile.ZipFile(tmp_path / "13.docx", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("word/document.xml", bytes(96 << 20))
    (tmp_path / "14.epub").write_text("no zip")
    rows = [{"text": prose(200 + number, 2, "zh" if number % 2 else "en")} for number in range(40)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines.insert(7, '{"text": 3}')
    (tmp_path / "20.jsonl").write_text("\n".join(lines))
    (tmp_path / "21.jsonl").write_text("\n".join([*lines[:3], "{broken"]))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "setup.py").write_text("import setuptools\n")
    (tmp_path / "code" / "LICENSE").write_text("as it is")
    for number in range(20):
        (tmp_path / "code" / f"m{number:02}.py").write_text(f"def f{number}() -> None: ...\n")
    found, skipped = both(tmp_path, memory_gib=0.5)
    assert len(found) > 100
    assert {Path(left.origin.split(":")[0]).name for left in skipped} >= {"13.docx", "14.epub", "20.jsonl", "LICENSE"}
    places = [left.origin.split(":")[0] for left in skipped]
    assert places == sorted(places)
    monkeypatch.setattr(ray_reading, "LARGE_ROW_FILE_BYTES", 10)  # rows here, all else there
    assert both(tmp_path, memory_gib=0.5) == (found, skipped)


@pytest.mark.usefixtures("ray")
def test_a_reader_of_ones_own_is_used_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def log(path: Path) -> Iterator[RawDocument]:
        yield RawDocument("of ones own")

    monkeypatch.setitem(READERS, ".pdf", log)
    for name in ("a.txt", "b.pdf", "c.txt"):
        (tmp_path / name).write_text(name)
    assert [document.text for document in both(tmp_path)[0]] == ["a.txt", "of ones own", "c.txt"]


def fail_of_ones_own(number: int) -> int:
    if number == 3:
        raise ConfigError("three is not allowed")
    return number


def divide_by_zero() -> float:
    return 1 / 0


def end_the_process(number: int) -> int:
    os._exit(number)


@pytest.mark.usefixtures("ray")
def test_results_come_in_order_and_errors_are_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(spread(fail_of_ones_own, [(0,), (1,), (2,)], None, "counting")) == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"^three is not allowed$"):
        list(spread(fail_of_ones_own, ((number,) for number in range(100)), None, "counting"))
    with pytest.raises(RunError, match=r"^Ray: dividing failed \(ZeroDivisionError: [^\n]*\)$"):
        list(spread(divide_by_zero, [()], None, "dividing"))
    with pytest.raises(RunError, match=r"^Ray: ending failed \(WorkerCrashedError: [^\n]*\)$"):
        list(spread(end_the_process, [(1,)], None, "ending"))
    assert capfd.readouterr() == ("", "")  # Ray says nothing of its own


@pytest.mark.usefixtures("ray")
def test_a_folder_that_a_node_does_not_see_is_an_error_and_no_skipped_file(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.txt")
    with pytest.raises(RunError, match=r"node \S+ of the Ray cluster does not see \S+gone\.txt; .* all nodes share"):
        list(spread(ray_reading._read_there, [([gone], str(tmp_path), None, FileLimits())], None, "reading"))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"nothing answers there .*ray start --head"),
        ("ray://host:10001", "write HOST:PORT"),
        ("host", "write HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_line_at_once(address: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(prose(1, 20))
    command = ["data", "build", "--documents", str(tmp_path), "--executor", "ray", "--ray_address", address]
    done = subprocess.run(
        [sys.executable, "-m", "longalign", *command, "--out", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.search(message, line)
