"""Real files of 18 kinds out of published packages are read, or passed over for a reason, and become rows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from longalign.core.text_quality import checked
from longalign.data.documents import Skipped, is_source_code
from longalign.data.source import read_documents
from tests.makers.real_files import RealFile, real_files

pytestmark = pytest.mark.slow

LEFTOVER = {
    "pdf": r"\(cid:\d+\)|[\ue000-\uf8ff\ufffe\x02]|[ﬀ-ﬆ]",
    "html": r"</?(?:div|span|td)\b[^>]*>|&(?:amp|nbsp);",
    "docx": r"<w:|PAGEREF|HYPERLINK",
    "pptx": r"<a:|^[ |]+$",
    "xlsx": r"<[a-z]+:|\bNone\b",
    "odf": r"<(?:text|office):[a-z]+ [a-z]+:",
    "rtf": r"\\(?:par|pard|fonttbl|f\d)\b",
    "epub": r"</?(?:p|div|span|a)\b[^>]*>",
    "tex": r"\\(?:documentclass|usepackage|label|emph)\b",
    "man": r"^\.[A-Z]{2}\b|\\f[BIR]",
    "mail": r"^Content-Type:|=[0-9A-F]{2}=[0-9A-F]{2}",
    "subtitles": r"-->|</?i>",
    "notebook": r'"cell_type"',
    "xml": r"</?[a-z]+>|<!\[CDATA",
    "charset": r"\ufffd|[\x80-\x9f]",
}
"""What a reader must not leave in a text of a kind."""
FEWEST_LETTERS = 0.55
"""Share of letters, digits and blanks in the texts of a kind: rubbish has less."""


@pytest.fixture(scope="module")
def files() -> list[RealFile]:
    return real_files()


@pytest.fixture(scope="module")
def folder(files: list[RealFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files, each in a folder of its number, for names recur."""
    place = tmp_path_factory.mktemp("real")
    for number, file in enumerate(files):
        (place / f"{number:03d}").mkdir()
        shutil.copy(file.path, place / f"{number:03d}" / file.path.name)
    return place


def test_every_file_gives_the_words_that_are_in_it_or_a_reason(files: list[RealFile], folder: Path) -> None:
    assert len(files) >= 60
    assert len({file.kind for file in files}) >= 12
    skipped: list[Skipped] = []
    texts: Counter[int] = Counter()
    found: dict[int, str] = {}
    for document in read_documents([folder], skipped=skipped):
        number = int(Path(document.origin.split(":")[0]).parent.name)
        texts[number] += 1
        found[number] = document.text
    reasons = {int(Path(left.origin.split(":")[0]).parent.name): left.reason for left in skipped}
    assert set(found) | set(reasons) == set(range(len(files)))
    assert not set(found) & set(reasons)
    wrong = []
    for number, file in enumerate(files):
        text = found.get(number, "")
        if file.reason:
            ok = file.reason in reasons.get(number, "")
        else:
            ok = all(word in text for word in file.words)
        leftover = re.search(LEFTOVER.get(file.kind, r"\Z(?!\Z)"), text, re.MULTILINE)
        if not ok or leftover:
            wrong.append((file.kind, file.path.name, leftover and leftover[0], reasons.get(number), text[:80]))
    assert not wrong, "\n".join(map(str, wrong))
    for kind in LEFTOVER:
        joined = "".join(found.get(number, "") for number, file in enumerate(files) if file.kind == kind)
        readable = sum(char.isalnum() or char.isspace() for char in joined)
        assert readable > FEWEST_LETTERS * len(joined) > 0, kind


def test_none_of_them_is_taken_for_no_text_and_only_contents_pages_are_cut_out(folder: Path) -> None:
    checks = [checked(document.text, code=is_source_code(document)) for document in read_documents([folder])]
    assert [check.fault for check in checks if check.fault] == []
    cuts = [cut for check in checks for cut in check.cuts]
    assert {cut.reason for cut in cuts} == {"contents page"}
    assert sum(bool(check.cuts) for check in checks) == 7
    assert all(re.search(r"\d", line) for cut in cuts for line in cut.text.split("\n")[:3] if line.strip())


def test_a_word_in_a_text_box_or_a_note_comes_once(files: list[RealFile], folder: Path) -> None:
    places = {file.path.name: str(folder / f"{n:03d}") for n, file in enumerate(files) if file.kind == "docx"}
    for name, words in (("text-box.docx", "Datum plane"), ("footnotes.docx", "A tachyon walks into a bar.")):
        (document,) = read_documents([places[name]])
        assert document.text.count(words) == 1


def test_two_columns_are_read_one_after_the_other(files: list[RealFile], folder: Path) -> None:
    (number,) = [number for number, file in enumerate(files) if file.path.name == "01-valid.pdf"]
    (document,) = read_documents([folder / f"{number:03d}"])
    flowing = " ".join(document.text.split())
    left = flowing.index("the outer tree would then be able to properly finish and record a call to the inner tree")
    assert left < flowing.index("4.2 Blacklisting with Nesting") < flowing.index("5. Trace Tree")


def test_a_build_makes_rows_of_the_folder_and_says_nothing_else(folder: Path, tmp_path: Path) -> None:
    options = ["--llm", "offline", "--preset", "best", "--rows", "12", "--out", str(tmp_path / "rows.jsonl")]
    command = [sys.executable, "-m", "longalign", "data", "build", "--documents", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) < 20, done.stderr  # PDF libraries used to write a line a page
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 12
