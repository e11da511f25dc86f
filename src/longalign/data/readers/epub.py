"""Electronic books: their pages in reading order."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from longalign.data.readers.archive import archive, local
from longalign.data.readers.decode import decode
from longalign.data.readers.html import html_text
from longalign.data.readers.raw import RawDocument
from longalign.errors import UnreadableError


def epub(path: Path) -> Iterator[RawDocument]:
    """An electronic book, with its title; its table of contents is left out."""
    with archive(path) as file:
        roots = [node for node in file.xml("META-INF/container.xml").iter() if local(node) == "rootfile"]
        if not roots:
            raise UnreadableError("EPUB names no package file")
        package = roots[0].get("full-path", "")
        opf = file.xml(package)
        items = {node.get("id"): node for node in opf.iter() if local(node) == "item"}
        order = [node.get("idref") for node in opf.iter() if local(node) == "itemref"]
        title = next((node.text or "" for node in opf.iter() if local(node) == "title"), "")
        texts = []
        for item in (items[name] for name in order if name in items):
            member = posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(item.get("href", ""))))
            if "nav" not in item.get("properties", "").split() and member in file.names:
                texts.append(html_text(decode(file.bytes_of(member)))[0])
    if not any(texts):
        raise UnreadableError("EPUB without pages")
    yield RawDocument("\n\n".join(text for text in texts if text), title)
