"""XML of any vocabulary: an element with text of its own is a paragraph (DocBook, JATS, TEI, feeds)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml import etree

from longalign.data.readers.archive import local, parse_xml
from longalign.data.readers.decode import text_of
from longalign.data.readers.html import html_text
from longalign.data.readers.raw import RawDocument
from longalign.errors import UnreadableError

PRE = frozenset(["programlisting", "screen", "literallayout", "synopsis", "code", "preformat", "pre", "verse"])
LEAST_WORDS = 20
MARKUP = re.compile(
    r"</?(?:p|div|br|a|img|span|font|ul|li|b|i|em|strong|table|blockquote|center)\b[^<>]*>", re.IGNORECASE
)
ADDRESS = re.compile(r"\s*(?:https?|urn|tag|mailto):\S+\s*")


def xml(path: Path) -> Iterator[RawDocument]:
    """The text of elements, in order; attributes, comments and processing instructions are left out."""
    source = re.sub(r"^\s*<\?xml[^>]*\?>", "", text_of(path))
    try:
        root = parse_xml(source.encode("utf-8", "replace"), recover=True)
    except etree.XMLSyntaxError as error:
        raise UnreadableError(f"not XML ({error})") from None
    if root is None:
        raise UnreadableError("not XML")
    if local(root) == "html":
        yield RawDocument(*html_text(source))
        return
    text = _text(root)
    if len(text.split()) < LEAST_WORDS:
        raise UnreadableError(f"XML `{local(root)}` without text")
    title = next(("".join(n.itertext()) for n in root.iter() if local(n) in ("title", "article-title")), "")
    yield RawDocument(text, title)


def _text(root: Any) -> str:
    parts: list[str] = []
    inside = 0  # how many elements around have text of their own
    for event, node in etree.iterwalk(root, events=("start", "end")):
        name = local(node)
        if event == "start" and not len(node) and node.text:
            if not inside and ADDRESS.fullmatch(node.text):
                node.text = None  # a feed's links and identifiers
            elif MARKUP.search(node.text):
                node.text = html_text(node.text)[0]  # a page inside a feed
        mixed = _mixed(node)
        pre = name in PRE and "\n" in (node.text or "")
        if event == "start":
            if not inside or pre:
                parts.append("\n" if not inside else "\n\n")
            inside += mixed
            parts.append((node.text or "") if pre else _flow(node.text))
        else:
            inside -= mixed
            if (mixed and not inside) or pre:
                parts.append("\n\n" if pre or name in ("para", "p", "simpara") else "\n")
            parts.append(_flow(node.tail) if inside or (node.tail or "").strip() else "")
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" *\n", "\n", "".join(parts))).strip()


def _mixed(node: Any) -> bool:
    return bool((node.text or "").strip()) or any((child.tail or "").strip() for child in node)


def _flow(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "")
