"""Text of HTML, EPUB and DOCX with the standard library only."""

from __future__ import annotations

import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote
from xml.etree import ElementTree

from longalign.errors import UnreadableError

SILENT_TAGS = "script style noscript template svg math head nav header footer aside form button iframe"
BLOCK_TAGS = """
p div section article main h1 h2 h3 h4 h5 h6 ul ol li table tr pre blockquote figure figcaption dl dt dd hr br
"""
SILENT = frozenset(SILENT_TAGS.split())
BLOCK = frozenset(BLOCK_TAGS.split())
VOID = frozenset(("hr", "br"))
WORD_NAMESPACE = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def html_text(html: str) -> tuple[str, str]:
    """(text, title) of a page: scripts, styles and page furniture left out, blocks on lines of their own."""
    reader = _Html()
    reader.feed(html)
    reader.close()
    text = re.sub(r"[ \t]+\n", "\n", "".join(reader.parts))
    return re.sub(r"\n{3,}", "\n\n", text).strip(), " ".join("".join(reader.title).split())


class _Html(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.title: list[str] = []
        self.silent: list[str] = []
        self.in_title = False
        self.preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self.in_title = True
        elif tag in SILENT:
            self.silent.append(tag)
        elif tag == "body":  # a head that was never closed ends here
            self.silent = []
        elif tag in BLOCK and not self.silent:
            self.preformatted += tag == "pre"
            self.parts.append("\n" if tag in ("br", "li", "tr", "dt", "dd") else "\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self.in_title = False
        elif tag in self.silent:
            while self.silent and self.silent.pop() != tag:
                pass
        elif tag in BLOCK - VOID and not self.silent:
            self.preformatted -= tag == "pre" and self.preformatted > 0
            self.parts.append("\n")
        elif tag in ("td", "th"):
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if self.in_title:
            self.title.append(data)
        elif not self.silent:
            flowing = re.sub(r"\s+", " ", data)
            at_line_start = not self.parts or self.parts[-1].endswith("\n")
            self.parts.append(data if self.preformatted else flowing.lstrip() if at_line_start else flowing)


def docx_text(path: Path) -> str:
    """The paragraphs of a Word file, one a line."""
    body = _xml(_member(path, "word/document.xml"), path)
    lines = []
    for paragraph in body.iter(f"{WORD_NAMESPACE}p"):
        pieces = []
        for node in paragraph.iter():
            if node.tag == f"{WORD_NAMESPACE}t":
                pieces.append(node.text or "")
            elif node.tag in (f"{WORD_NAMESPACE}tab", f"{WORD_NAMESPACE}br"):
                pieces.append("\t" if node.tag.endswith("tab") else "\n")
        lines.append("".join(pieces))
    return "\n".join(lines)


def epub_text(path: Path) -> tuple[str, str]:
    """(text, title) of an EPUB: its pages in reading order."""
    container = _xml(_member(path, "META-INF/container.xml"), path)
    package = next((node.get("full-path") for node in container.iter() if node.tag.endswith("rootfile")), None)
    if package is None:
        raise UnreadableError("EPUB names no package file")
    opf = _xml(_member(path, package), path)
    items = {node.get("id"): node.get("href") for node in opf.iter() if node.tag.endswith("}item")}
    order = [node.get("idref") for node in opf.iter() if node.tag.endswith("}itemref")]
    title = next((node.text or "" for node in opf.iter() if node.tag.endswith("}title")), "")
    base = PurePosixPath(package).parent
    pages = [items[name] for name in order if name in items]
    texts = [html_text(_member(path, str(base / unquote(page or ""))).decode("utf-8", "replace"))[0] for page in pages]
    return "\n\n".join(text for text in texts if text), title


def _member(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise UnreadableError(f"damaged or not a {path.suffix} file ({error})") from None


def _xml(data: bytes, path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise UnreadableError(f"damaged {path.suffix} file ({error})") from None
