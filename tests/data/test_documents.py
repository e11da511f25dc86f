"""Documents are read from what people have; what cannot be read is named or counted, never guessed."""

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from longalign.core.text import detect_language
from longalign.data.documents import NAMES, Document, Skipped, source_kind
from longalign.data.source import documents_fingerprint, read_documents
from longalign.errors import DataError

WORD_XML = (
    '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    "<w:p><w:r><w:t>First</w:t></w:r><w:r><w:t> paragraph.</w:t></w:r></w:p><w:p><w:r><w:t>Second.</w:t></w:r></w:p>"
    "</w:body></w:document>"
)


def texts(*paths: Path | str) -> list[str]:
    return [document.text for document in read_documents(list(paths))]


def one(path: Path) -> Document:
    (document,) = read_documents([path])
    return document


def test_folders_are_read_in_order_and_everything_else_is_counted(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.md").write_text("# Title b\n\ntext b")
    (tmp_path / "sub" / "a.py").write_text("print('a')")
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    (tmp_path / "zero.txt").write_bytes(b"ab\0cd")
    (tmp_path / "empty.txt").write_text("  \n")
    skipped: list[Skipped] = []
    found = list(read_documents([tmp_path], skipped=skipped))
    assert [document.text for document in found] == ["# Title b\n\ntext b", "print('a')"]
    assert found[0].title == "Title b"
    reasons = {Path(entry.origin).name: entry.reason for entry in skipped}
    assert reasons == {"image.png": "unknown kind of file `.png`", "zero.txt": "binary file", "empty.txt": "no text"}


def test_json_without_text_costs_a_folder_that_file_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a harbour")
    (tmp_path / "package.json").write_text('{"name": "x", "version": "1"}')
    (tmp_path / "rows.jsonl").write_text('{"text": "first"}\n{"text": null}\n')
    skipped: list[Skipped] = []
    assert [document.text for document in read_documents([tmp_path], skipped=skipped)] == ["a harbour", "first"]
    assert [Path(entry.origin).name for entry in skipped] == ["package.json", "rows.jsonl:2"]
    assert skipped[0].reason.startswith("no text fields (has `name`, `version`)")
    assert skipped[1].reason.startswith("field `text` is null")
    with pytest.raises(DataError, match="no text fields"):
        texts(tmp_path / "package.json")


def test_line_ends_nul_and_half_surrogates_are_cleaned(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\r\\nb\\u0000c\\ud83d"}')
    assert one(tmp_path / "a.jsonl").text == "a\nbc\ufffd"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("中文。".encode("gb18030"), "中文。"),
        ("héllo".encode("utf-16"), "héllo"),
        (b"\xef\xbb\xbfmarked", "marked"),
        (gzip.compress(b"packed", mtime=0), "packed"),
    ],
)
def test_encodings_that_are_certain_are_read(data: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.txt.gz" if data[:2] == b"\x1f\x8b" else "a.txt")
    path.write_bytes(data)
    assert one(path).text == text


def test_a_named_file_that_cannot_be_read_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(DataError, match=r"a.txt: not UTF-8 \(byte 0xe9 at 3\)"):
        texts(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_bytes(b"a\0b")
    with pytest.raises(DataError, match="binary file"):
        texts(tmp_path / "b.txt")
    with pytest.raises(DataError, match="no such file or folder"):
        texts(tmp_path / "none")


def test_an_empty_corpus_says_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no document in .*unknown kind of file"):
        texts(tmp_path)
    with pytest.raises(DataError, match="no documents given"):
        texts()


def test_row_files_give_text_title_and_source(tmp_path: Path) -> None:
    rows = [{"text": "one", "source": "Pile-CC", "title": "T"}, {"content": "two", "meta": {"pile_set_name": "ArXiv"}}]
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = list(read_documents([tmp_path / "d.jsonl"]))
    assert [(d.text, d.source) for d in found] == [("one", "commoncrawl"), ("two", "arxiv")]
    assert found[0].title == "T"
    assert found[1].origin.endswith("d.jsonl:2")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{no", "not JSON"),
        ('{"x": 1}', "field `text` is missing"),
        ('{"text": 1}', "field `text` is a int"),
        ("[]", "object"),
    ],
)
def test_a_broken_row_is_named_with_its_line(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"text": "fine"}\n' + line)
    with pytest.raises(DataError, match=words) as error:
        texts(tmp_path / "d.jsonl")
    assert "d.jsonl:2" in str(error.value)


def test_html_loses_its_furniture_and_keeps_its_text(tmp_path: Path) -> None:
    (tmp_path / "p.html").write_text(
        "<html><head><title>The page</title><style>x{}</style></head><body><nav>menu</nav><h1>Head</h1>"
        "<p>One <b>two</b>\n three &amp; four.</p><ul><li>a<li>b</ul><pre>x\n  y</pre>"
        "<script>bad()</script></body></html>"
    )
    document = one(tmp_path / "p.html")
    assert document.title == "The page"
    assert document.text == "Head\n\nOne two three & four.\n\na\nb\n\nx\n  y"


def test_office_and_book_files_are_read_without_extras(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.docx", "w") as archive:
        archive.writestr("word/document.xml", WORD_XML)
    assert one(tmp_path / "w.docx").text == "First paragraph.\nSecond."
    with zipfile.ZipFile(tmp_path / "b.epub", "w") as archive:
        archive.writestr(
            "META-INF/container.xml",
            '<container xmlns="urn:c"><rootfiles><rootfile full-path="O/p.opf"/></rootfiles></container>',
        )
        archive.writestr(
            "O/p.opf",
            '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="urn:dc">'
            "<metadata><dc:title>Book</dc:title></metadata>"
            '<manifest><item id="2" href="two.xhtml"/><item id="1" href="one%20a.xhtml"/></manifest>'
            '<spine><itemref idref="1"/><itemref idref="2"/></spine></package>',
        )
        archive.writestr("O/one a.xhtml", "<html><body><p>Chapter one.</p></body></html>")
        archive.writestr("O/two.xhtml", "<html><body><p>Chapter two.</p></body></html>")
    book = one(tmp_path / "b.epub")
    assert (book.title, book.text) == ("Book", "Chapter one.\n\nChapter two.")
    (tmp_path / "broken.docx").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match=r"damaged or not a \.docx"):
        texts(tmp_path / "broken.docx")


def test_parquet_and_pdf_are_read_or_name_the_extra(tmp_path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        (tmp_path / "t.parquet").write_bytes(b"PAR1")
        with pytest.raises(DataError, match=r"longalign\[documents\]"):
            texts(tmp_path / "t.parquet")
    else:
        parquet.write_table(pyarrow.table({"text": ["a", "b"], "source": ["C4", ""]}), tmp_path / "t.parquet")
        assert texts(tmp_path / "t.parquet") == ["a", "b"]
    (tmp_path / "p.pdf").write_bytes(b"%PDF-1.4 broken")
    with pytest.raises(DataError, match=r"longalign\[documents\]|PDF cannot be read"):
        texts(tmp_path / "p.pdf")


def test_bundled_corpora_are_documents_with_their_titles() -> None:
    document = next(iter(read_documents(["builtin:python-docs"])))
    assert document.source == "python-docs"
    assert document.language == "en"
    assert document.title


def test_the_fingerprint_follows_contents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    before = documents_fingerprint([tmp_path])
    assert documents_fingerprint([tmp_path]) == before
    (tmp_path / "a.txt").write_text("two")
    assert documents_fingerprint([tmp_path]) != before


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("ArXiv", "arxiv"),
        ("Books3", "books"),
        ("Gutenberg (PG-19)", "books"),
        ("c4/en/part-1.jsonl", "c4"),
        ("CLUECorpus2020", "clue"),
        ("Pile-CC", "commoncrawl"),
        ("Github", "github"),
        ("StackExchange", "stackexchange"),
        ("Wikipedia (en)", "wikipedia"),
        ("WuDaoCorpora/part.json", "wudao"),
        ("my_notes/2024.md", "my_notes"),
        ("abc4.txt", "abc4"),
    ],
)
def test_the_nine_source_kinds_are_recognised(label: str, kind: str) -> None:
    assert source_kind(label) == kind
    assert len(NAMES) == 9


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The river is long.", "en"),
        ("这条河很长。", "zh"),
        ("使用 Python 3 的 asyncio 模块编写并发代码", "zh"),
        ("The word 河 means river in Chinese writing", "en"),
        ("これは日本語の文章です。漢字もあります。", "other"),
        ("Это русский текст", "other"),
        ("12345 !!!", "other"),
    ],
)
def test_languages_by_script(text: str, language: str) -> None:
    assert detect_language(text) == language
