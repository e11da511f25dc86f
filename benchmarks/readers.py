"""What the readers give for real files of 18 kinds, now and before they were replaced.

    python -m benchmarks.readers            # writes benchmarks/results/readers.json, prints the table of decision 0009

The files are those of tests/makers/real_files.py. The old readers run from the commit `BEFORE` of this repository. A
file is right when the words known to be in it are in its text, or when it gives none for the expected reason.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from tests.makers.real_files import RealFile, package, real_files

from benchmarks.measure import write_result

ROOT = Path(__file__).parents[1]
CLAIM = "The readers give the words of real files of 18 kinds, or the reason why there are none."
BEFORE = "2295002"
READ = """
import contextlib, io, json, sys, time
from pathlib import Path
try:
    from longalign.data.readers import is_known, read_file
except ImportError:
    from longalign.data.file_text import is_known, read_file
for name in json.load(sys.stdin):
    path, start, text, reason = Path(name), time.process_time(), "", ""
    try:
        if is_known(path):
            with contextlib.redirect_stderr(io.StringIO()):
                text = "\\n".join(document.text for document in read_file(path))
        reason = "" if text.strip() else "no text" if is_known(path) else "unknown kind"
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    print(json.dumps([name, text, reason, time.process_time() - start]))
"""


class Given(TypedDict):
    """What a reader gave for one file."""

    text: str
    reason: str
    seconds: float


class Line(TypedDict):
    """One kind. Numbers of files and characters of their texts."""

    kind: str
    files: int
    read_before: int
    read: int
    right_before: int
    right: int
    characters_before: int
    characters: int
    seconds_before: float
    seconds: float
    wrong: list[str]


def given(source: Path, files: list[RealFile], *libraries: Path) -> dict[str, Given]:
    """The texts by the readers of a source tree, in a process of its own."""
    names = json.dumps([str(file.path) for file in files])
    env = {"PYTHONPATH": os.pathsep.join(map(str, (source, *libraries)))}
    run = [sys.executable, "-c", READ]
    done = subprocess.run(run, input=names, env=env, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: Given(text=text, reason=reason, seconds=seconds) for name, text, reason, seconds in lines}


def is_right(file: RealFile, got: Given) -> bool:
    """Whether the words are there, or the reason is the expected one."""
    if file.reason:
        return not got["text"].strip() and file.reason in got["reason"]
    return all(word in got["text"] for word in file.words)


def table(files: list[RealFile], before: dict[str, Given], now: dict[str, Given]) -> list[Line]:
    """A line a kind."""
    lines = []
    for kind in dict.fromkeys(file.kind for file in files):
        those = [file for file in files if file.kind == kind]
        old, new = [before[str(file.path)] for file in those], [now[str(file.path)] for file in those]
        pairs = list(zip(those, old, new, strict=True))
        lines.append(
            Line(
                kind=kind,
                files=len(those),
                read_before=sum(bool(got["text"].strip()) for got in old),
                read=sum(bool(got["text"].strip()) for got in new),
                right_before=sum(is_right(file, got) for file, got, _ in pairs),
                right=sum(is_right(file, got) for file, _, got in pairs),
                characters_before=sum(len(got["text"]) for got in old),
                characters=sum(len(got["text"]) for got in new),
                seconds_before=round(sum(got["seconds"] for got in old), 2),
                seconds=round(sum(got["seconds"] for got in new), 2),
                wrong=[f"{file.path.name}: {got['reason']}" for file, _, got in pairs if not is_right(file, got)],
            )
        )
    return lines


def main() -> None:
    """Measure, write, print."""
    files = real_files()
    with TemporaryDirectory() as place:
        archive = subprocess.run(["git", "archive", BEFORE, "src"], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as stream:
            stream.extractall(place, filter="data")
        before = given(Path(place) / "src", files, package("pypi", "pypdf"))
    lines = table(files, before, given(ROOT / "src", files))
    write_result("readers", CLAIM, lines, before=BEFORE)
    print("| kind | files | read before | read now | right before | right now | characters before | now |")
    print("|---|---|---|---|---|---|---|---|")
    for line in lines:
        print(
            f"| {line['kind']} | {line['files']} | {line['read_before']} | {line['read']} | {line['right_before']} "
            f"| {line['right']} | {line['characters_before']:,} | {line['characters']:,} |"
        )
    for line in lines:
        for wrong in line["wrong"]:
            print(f"wrong now: {line['kind']} {wrong}")


if __name__ == "__main__":
    main()
