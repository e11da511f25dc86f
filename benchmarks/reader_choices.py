"""Our readers beside libraries for the same kind of file, on real files whose text is known otherwise (decision 0009).

    python -m benchmarks.reader_choices     # writes benchmarks/results/reader_choices.json

Libraries that are not installed are left out. HTML: manuals with a text edition, the reference. Word, PowerPoint: words
of the XML's text elements, alternatives for old programs left out. Charsets: chardet's own test files, their charset
given by their folder. Excel: workbooks that open.
"""

from __future__ import annotations

import gzip
import re
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from lxml import etree
from tests.makers.real_files import package

from benchmarks.measure import write_result
from longalign.data.readers import read_file
from longalign.data.readers.charset import detect
from longalign.data.readers.decode import decode
from longalign.data.readers.html import html_text
from longalign.errors import UnreadableError

CLAIM = "On real files no library reads more words of a kind than the reader that was chosen."
IN_PRACTICE = {
    "big5": "big5hkscs", "shift_jis": "cp932", "gb2312": "gb18030", "euc-kr": "cp949", "windows-1252": "cp1252",
    "iso-8859-1": "cp1252", "iso-8859-9": "cp1254", "tis-620": "cp874", "macroman": "mac_roman",
    "maccyrillic": "mac_cyrillic",
}  # fmt: skip
LANGUAGE = re.compile(
    r"-(croatian|czech|hungarian|polish|slovak|slovene|bulgarian|russian|arabic|greek|turkish|romanian|hebrew)$"
)
Read = Callable[[Any], str]


def words(text: str) -> Counter[str]:
    """Words and how often."""
    return Counter(re.findall(r"\w+", text))


def ours(path: Path) -> str:
    """By the reader of the kind."""
    return "".join(document.text for document in read_file(path))


def compare(kind: str, name: str, read: Read, cases: Iterable[tuple[Any, str]]) -> dict[str, object]:
    """A reader's words against the reference: share found, share that is right, files that failed, seconds."""
    found = wanted = given = failed = 0
    start = time.process_time()
    for source, reference in cases:
        want = words(reference)
        wanted += want.total()
        try:
            got = words(read(source))
        except Exception:  # libraries raise almost anything
            failed += 1
            continue
        found, given = found + (want & got).total(), given + got.total()
    seconds = time.process_time() - start
    line = {"kind": kind, "reader": name, "words": wanted, "found": round(found / wanted, 4)}
    return line | {"precision": round(found / max(1, given), 4), "failed": failed, "seconds": round(seconds, 2)}


def pages() -> list[dict[str, object]]:
    """HTML."""
    policy = package("debian", "debian-policy") / "usr/share/doc/debian-policy"
    faq = package("debian", "debian-faq") / "usr/share/doc/debian/FAQ"
    manuals = (
        ("policy", sorted(policy.glob("policy.html/*.html")), policy / "policy.txt.gz"),
        ("FHS", sorted(policy.glob("fhs/*.html")), policy / "fhs/fhs-3.0.txt.gz"),
        ("FAQ", sorted(faq.glob("*.en.html")), faq / "debian-faq.en.txt.gz"),
    )
    readers: dict[str, Read] = {"lxml walk": lambda page: html_text(page)[0]}
    if library := _library("trafilatura"):
        readers["trafilatura"] = lambda page: library.extract(page, include_comments=False, favor_recall=True) or ""
    lines = []
    for manual, files, reference in manuals:
        text = gzip.decompress(reference.read_bytes()).decode("utf-8", "replace")
        for name, read in readers.items():
            whole = "\n\f".join(file.read_text("utf-8", "replace") for file in files)
            lines.append(compare(f"HTML, {manual}", name, _by_page(read), [(whole, text)]))
    return lines


def _by_page(read: Read) -> Read:
    return lambda source: "\n".join(read(page) for page in source.split("\f"))


def office() -> list[dict[str, object]]:
    """Word and PowerPoint."""
    docx = [
        *package("npm", "mammoth").glob("test/test-data/*.docx"),
        *package("pypi", "python_docx").glob("features/steps/test_files/*.docx"),
    ]
    pptx = [*package("pypi", "python_pptx").glob("features/steps/test_files/*.pptx")]
    lines = []
    for kind, files, members in (
        ("DOCX", docx, r"word/(document|\w+notes)\.xml"),
        ("PPTX", pptx, r"ppt/(notesS|s)lides/.*xml"),
    ):
        readers: dict[str, Read] = {"lxml walk": ours}
        if kind == "DOCX" and (mammoth := _library("mammoth")):
            readers["mammoth"] = lambda path, mammoth=mammoth: mammoth.extract_raw_text(path.open("rb")).value  # type: ignore[misc]
        if kind == "DOCX" and (library := _library("docx")):
            readers["python-docx"] = lambda path, library=library: _python_docx(library, path)  # type: ignore[misc]
        cases = [(path, _xml_words(path, members)) for path in sorted(files)]
        lines += [compare(kind, name, read, cases) for name, read in readers.items()]
    return lines


def _python_docx(library: Any, path: Path) -> str:
    document = library.Document(str(path))
    cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    return "\n".join([*(paragraph.text for paragraph in document.paragraphs), *cells])


def _xml_words(path: Path, members: str) -> str:
    found = []
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            if re.fullmatch(members, name):
                for node in etree.fromstring(file.read(name)).iter("{*}t"):
                    above = {str(parent.tag).rpartition("}")[2] for parent in node.iterancestors()}
                    found.append("" if above & {"Fallback", "del", "moveFrom", "fld"} else node.text or "")
    return " ".join(found)


def workbooks() -> list[dict[str, object]]:
    """Excel: how many of the files open."""
    places = (
        package("pypi", "tablib").glob("tests/files/*.xlsx"),
        package("pypi", "xlsx2csv").glob("test/*.xls?"),
        package("npm", "xlsx-populate").glob("examples/*/*.xlsx"),
    )
    files = sorted(path for place in places for path in place)
    readers: dict[str, Callable[[Path], object]] = {"calamine": ours}
    if openpyxl := _library("openpyxl"):
        readers["openpyxl"] = lambda path: [
            list(sheet.values) for sheet in openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets
        ]
    lines: list[dict[str, object]] = []
    for name, read in readers.items():
        opened = 0
        for path in files:
            try:
                read(path)
                opened += 1
            except Exception:  # libraries raise almost anything
                continue
        lines.append({"kind": "XLSX", "reader": name, "files": len(files), "opened": opened})
    return lines


def charsets() -> list[dict[str, object]]:
    """Right, wrong and refused, of all files; the last line without declarations, of charsets that need a detector."""
    library: Any = import_module("charset_normalizer")
    found: dict[str, Counter[str]] = {"declared, else alphabets": Counter(), "charset-normalizer": Counter()}
    found["alphabets alone"] = Counter()
    for folder in sorted((package("pypi", "chardet") / "tests").iterdir()):
        charset = LANGUAGE.sub("", folder.name).lower()
        plain = charset.startswith(("utf", "ascii", "iso-2022"))
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            data = path.read_bytes()
            try:
                truth = _folded(data.decode(IN_PRACTICE.get(charset, charset)))
            except (LookupError, UnicodeDecodeError):
                continue
            best = library.from_bytes(data).best()
            answers: dict[str, str | None] = {"charset-normalizer": str(best) if best else None}
            try:
                answers["declared, else alphabets"] = decode(data)
            except UnreadableError:
                answers["declared, else alphabets"] = None
            if not plain:
                answers["alphabets alone"] = detect(data)[0]
            for name, text in answers.items():
                found[name]["refused" if text is None else "right" if _folded(text) == truth else "wrong"] += 1
    return [{"kind": "charset", "reader": name, **counts} for name, counts in found.items()]


def _folded(text: str) -> str:
    return re.sub(r"\s+", "", text.lstrip("\ufeff"))


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def main() -> None:
    """Measure, print, write."""
    warnings.simplefilter("ignore")
    lines = [*pages(), *office(), *workbooks(), *charsets()]
    for line in lines:
        print(line)
    write_result("reader_choices", CLAIM, lines)


if __name__ == "__main__":
    main()
