"""Each kind of file gives its text once, whole, and without what only programs need."""

# ruff: noqa: E501 (documents as they stand in files)

import gzip
import json
import lzma
import time
import zipfile
from email.message import EmailMessage
from pathlib import Path

import pytest

from longalign.data.readers import RawDocument, is_known, read_file
from longalign.data.readers.latex import latex_text
from longalign.data.readers.pdf_text import join_hyphens, joined_pages
from longalign.data.source import read_documents
from longalign.errors import UnreadableError

TEXT = "The harbour office opened in 1911 and closed in 1974. " * 8
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def one(path: Path) -> RawDocument:
    (document,) = read_file(path)
    return document


@pytest.mark.parametrize(
    ("name", "charset", "text"),
    [
        ("shift_jis.txt", "shift_jis", "港の事務所は一九一一年に開かれ、一九七四年に閉じられた。" * 20),
        ("euc_jp.txt", "euc_jp", "港の事務所は一九一一年に開かれ、一九七四年に閉じられた。" * 20),
        ("euc_kr.txt", "euc_kr", "항구 사무소는 천구백십일년에 문을 열었다. " * 20),
        ("gb.txt", "gb18030", "港口的办事处在一九一一年开门，它是这个城市中最大的。" * 20),
        ("koi8.txt", "koi8_r", "Контора порта была открыта в начале века и закрыта после войны. " * 20),
        ("iso_kr.txt", "iso2022_kr", "항구 사무소는 천구백십일년에 문을 열었다.\n" * 20),
        ("win.txt", "cp1251", "Контора порта была открыта в начале века и закрыта после войны. " * 20),
        ("utf16.txt", "utf-16-le", TEXT),
    ],
)
def test_text_in_an_undeclared_charset_is_read_as_what_it_is(
    tmp_path: Path, name: str, charset: str, text: str
) -> None:
    (tmp_path / name).write_bytes(text.encode(charset))
    assert one(tmp_path / name).text == text


@pytest.mark.parametrize(("charset", "text"), [("Shift_JIS", "港の事務所。"), ("iso-8859-1", "Le café du port")])
def test_a_declared_charset_comes_first(tmp_path: Path, charset: str, text: str) -> None:
    page = f'<html><head><meta charset="{charset}"></head><body><p>{text}</p></body></html>'
    (tmp_path / "p.html").write_bytes(page.encode(charset))
    assert one(tmp_path / "p.html").text == text


def test_what_no_charset_explains_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(range(128, 256)) * 20)
    with pytest.raises(UnreadableError, match="not UTF-8"):
        one(tmp_path / "a.txt")


def test_a_page_inside_one_form_is_read_and_its_furniture_is_not(tmp_path: Path) -> None:
    (tmp_path / "f.html").write_text(f"<html><body><form><p>{TEXT}</p></form></body></html>")
    assert one(tmp_path / "f.html").text == TEXT.strip()
    (tmp_path / "g.html").write_text(
        f'<body><div class="cookie-consent">We use cookies</div><div role="navigation">Next</div><p>{TEXT}</p>'
        "<table><tr><td>a</td><td>1</td></tr></table><math><semantics><mi>x</mi>"
        '<annotation encoding="application/x-tex">x^2</annotation></semantics></math> and x<sup>2</sup></body>'
    )
    assert one(tmp_path / "g.html").text == f"{TEXT.strip()}\n\na | 1\n\n$x^2$ and x^2"
    (tmp_path / "h.html").write_text(f"<body><nav>{TEXT}</nav></body>")
    assert one(tmp_path / "h.html").text == TEXT.strip()


def test_a_text_box_of_word_is_read_once(tmp_path: Path) -> None:
    box = "<w:txbxContent><w:p><w:r><w:t>Boxed.</w:t></w:r></w:p></w:txbxContent>"
    both = f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
    table = "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    with zipfile.ZipFile(tmp_path / "w.docx", "w") as archive:
        archive.writestr(
            "word/document.xml",
            f'<w:document xmlns:w="{W}" xmlns:mc="urn:mc"><w:body><w:p><w:r><w:t>Before.</w:t></w:r><w:r>{both}</w:r></w:p>'
            f"{table}</w:body></w:document>",
        )
    assert one(tmp_path / "w.docx").text.split() == ["Before.", "Boxed.", "a", "|", "b"]


def test_open_document_text_keeps_spaces_and_notes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.odt", "w") as archive:
        archive.writestr(
            "content.xml",
            '<o:d xmlns:o="urn:o" xmlns:t="urn:t"><o:body><o:text><t:p>One<t:s t:c="2"/>two <t:span>three</t:span> four</t:p>'
            "</o:text></o:body></o:d>",
        )
    assert one(tmp_path / "a.odt").text == "One  two three four"


def test_manuals_subtitles_mail_and_latex_become_plain_text(tmp_path: Path) -> None:
    roff = ".TH HARBOUR 1\n.SH NAME\nharbour \\- keep the \\fBlog\\fR\n.SH DESCRIPTION\n.B harbour\nwrites.\n"
    (tmp_path / "harbour.1.gz").write_bytes(gzip.compress(roff.encode()))
    page = one(tmp_path / "harbour.1.gz")
    assert (page.title, page.text) == ("harbour(1)", "NAME\nharbour - keep the log\n\nDESCRIPTION\nharbour writes.")
    (tmp_path / "s.srt").write_text(
        "1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i>\n\n2\n00:00:03,000 --> 00:00:04,000\nthere\n"
    )
    assert one(tmp_path / "s.srt").text == "Hello\nthere"
    message = EmailMessage()
    message["Subject"], message["From"] = "Café", "a@example.org"
    message.set_content("Grüße", charset="iso-8859-1")
    (tmp_path / "m.eml").write_bytes(message.as_bytes())
    assert one(tmp_path / "m.eml").text == "From: a@example.org\nSubject: Café\n\nGrüße"
    (tmp_path / "p.tex").write_text(
        "\\documentclass{article}\n\\title{On tides}\n\\begin{document}\n\\section{Start}\nAn \\emph{old} port, $x^2$. % no\n"
        "\\end{document}\n"
    )
    assert (one(tmp_path / "p.tex").title, one(tmp_path / "p.tex").text) == ("On tides", "Start\n\nAn old port, $x^2$.")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"\foo[x]{1em}{\bar{an old}} {\bfseries port}", "an old port"),
        (r"\begin{DUclass}{note}\DUtitle{Note} in\end{DUclass}", "Note in"),
        (r"\begin{tabular}{ll}a & b\\ \hline c & \multicolumn{2}{p{3cm}}{d}\\\end{tabular}", "a | b\n c | d"),
        (
            r"\textbackslash{}n, \{e\}, 50\%, f\&g, \S 3, -{}-opt --- \LaTeX\ too",
            r"\n, {e}, 50%, f&g, §3, --opt — LaTeX too",
        ),
        (r"caf\'e, \"{o}l, gar\c{c}on, na\"\i ve", "café, öl, garçon, naïve"),
        (r"price \$5, then $a_{1} \& b$ and \[x\]", r"price $5, then $a_{1} \& b$ and \[x\]"),
        (r"\newcommand{\x}[1]{\emph{#1}}as \cite{k} in \ref{s}, \hyperref[s]{here}", "as [k] in [s], here"),
        ("\\verb|\\a{b}| \\begin{verbatim}\n\\emph{x} $y$\n\\end{verbatim}", "\\a{b} \\emph{x} $y$"),
    ],
)
def test_commands_of_latex_leave_their_text_and_formulas_stay(source: str, text: str) -> None:
    assert latex_text(source) == text


@pytest.mark.parametrize("source", ["\\a{", "{", "$", "\\begin{tabular}", "\\[", "\\x[[", "\\a{b}{", "{}", "%"])
def test_no_latex_takes_long(source: str) -> None:
    begin = time.process_time()
    latex_text(source * 20_000)
    assert time.process_time() - begin < 5


def test_a_title_is_no_directive_no_file_name_and_no_caption(tmp_path: Path) -> None:
    (tmp_path / "a.rst").write_text(".. include:: header.txt\n\n=====\n Tides\n=====\n\nThe text.\n")
    (tmp_path / "b.txt").write_text("* * *\n\n1974\n\nThe harbour\n")
    (tmp_path / "c.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n[Alba] In 1928,\n")
    titles = [document.title for document in read_documents([tmp_path])]
    assert titles == ["Tides", "The harbour", "c.srt"]


def test_files_are_known_by_content_where_their_name_says_nothing(tmp_path: Path) -> None:
    for name in ("LICENSE", "Makefile", "notes.u8", "README.first"):
        (tmp_path / name).write_text(TEXT)
        assert is_known(tmp_path / name), name
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(TEXT.encode()))
    assert one(tmp_path / "a.txt.xz").text == TEXT
    (tmp_path / "blob").write_bytes(b"\x00\x01\x02" * 50)
    assert not is_known(tmp_path / "blob")
    (tmp_path / "mod.py").write_text('"""\nDoc\n"""\n')
    assert one(tmp_path / "mod.py").title == "mod.py"


def test_rows_without_text_cost_themselves_and_name_the_fields_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text(json.dumps({"name": "harbour", "version": "1"}))
    with pytest.raises(UnreadableError, match=r"no text fields \(has `name`, `version`\)"):
        one(tmp_path / "package.json")
    (tmp_path / "r.jsonl").write_text('{"raw_content": null}\n{"raw_content": "x", "note": {"en": "y"}}\n')
    bad, good = read_file(tmp_path / "r.jsonl")
    assert (bad.text, good.text) == ("", "x")
    assert "field `raw_content` is null" in bad.problem
    (tmp_path / "r.jsonl").write_text('{"note": {"en": "y"}}\n')
    assert [row.text for row in read_file(tmp_path / "r.jsonl", "note.en")] == ["y"]


def test_heads_page_numbers_hyphens_and_ligatures_of_pages() -> None:
    pages = [
        f"The Harbour\r\nText of page {'abcdefg'[n]} with a con\ufffe\r\ntract and oﬃce.\r\n{'hijklmn'[n]} ends.\r\n{n + 11}"
        for n in range(7)
    ]
    text = joined_pages(pages)
    assert "The Harbour" not in text
    assert text.count("a contract and office.") == 7
    assert not any(char.isdigit() for char in text)
    assert join_hyphens("a well-known one, well\ufffe\nknown") == "a well-known one, well-known"
    with pytest.raises(UnreadableError, match="fonts give no letters"):
        joined_pages(["\ue001\ue002\ue003 abc"])


def test_a_manual_is_known_though_the_probe_ends_inside_a_letter(tmp_path: Path) -> None:
    roff = ".TH ГАВАНЬ 1\n.de1 Note\ndefinition\n..\n.SH ИМЯ\n.INDENT 0.0\n" + "гавань ведёт журнал\n" * 600
    for start in ("", "x"):  # one of the two cuts a letter
        source = f'.\\" {start}\n{roff}'
        (tmp_path / "g.1").write_text(source, encoding="utf-8")
        assert is_known(tmp_path / "g.1")
        assert one(tmp_path / "g.1").text.startswith("ИМЯ\nгавань ведёт журнал")


def test_what_a_feed_and_a_digest_hold_is_text(tmp_path: Path) -> None:
    item = "<item><link>http://a.org/1</link><description>&lt;p&gt;The &lt;b&gt;port&lt;/b&gt;.&lt;/p&gt;</description></item>"
    (tmp_path / "f.xml").write_text(f"<rss><channel><title>{TEXT}</title>{item}</channel></rss>")
    assert one(tmp_path / "f.xml").text.endswith("\n\nThe port.")
    assert "a.org" not in one(tmp_path / "f.xml").text
    parts = "".join(f"\n--b\n\nSubject: {n}\n\nText {n}.\n" for n in (1, 2))
    digest = f"From: a@b.org\nMIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n{parts}\n--b--\n"
    (tmp_path / "d.eml").write_text(digest)
    assert one(tmp_path / "d.eml").text.split("\n\n")[-4:] == ["Subject: 1", "Text 1.", "Subject: 2", "Text 2."]


def test_captions_that_roll_on_and_comments_behind_line_breaks_leave_nothing(tmp_path: Path) -> None:
    cue = "00:00:0{}.000 --> 00:00:0{}.000 align:start\n{}\n"
    (tmp_path / "y.vtt").write_text("WEBVTT\n\n" + cue.format(1, 2, "yeah") + cue.format(2, 3, "<c>what</c>"))
    assert one(tmp_path / "y.vtt").text == "yeah\nwhat"
    (tmp_path / "t.tex").write_text("One \\href{http://a.org}{port}\\\\% no\nand 5\\% of it.\n")
    assert one(tmp_path / "t.tex").text == "One port\nand 5% of it."


def test_an_encrypted_office_file_is_named_so(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine", reason="extra `documents`")
    for name in ("a.docx", "a.xlsx"):
        container = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600) + "EncryptedPackage".encode("utf-16-le") + bytes(600)
        (tmp_path / name).write_bytes(container)
        with pytest.raises(UnreadableError, match="with a password"):
            one(tmp_path / name)
