"""OpenDocument texts, sheets and presentations (.odt, .ods, .odp)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longalign.data.readers.archive import archive, attribute, local
from longalign.data.readers.raw import RawDocument

NOT_TEXT = frozenset(
    ["tracked-changes", "annotation", "annotation-end", "sequence-decls", "forms", "settings", "desc", "title"]
)
MOST_REPEATED = 100


def opendocument(path: Path) -> Iterator[RawDocument]:
    """One document, with its title."""
    with archive(path) as file:
        parts: list[str] = []
        body = next((node for node in file.xml("content.xml") if local(node) == "body"), None)
        if body is not None:
            _write(body, parts)
        title = ""
        if "meta.xml" in file.names:
            title = next((node.text or "" for node in file.xml("meta.xml").iter() if local(node) == "title"), "")
        yield RawDocument(re.sub(r"\n{3,}", "\n\n", "".join(parts)).strip(), title)


def _write(node: Any, parts: list[str]) -> None:
    name = local(node)
    if not name or name in NOT_TEXT:
        return
    if name == "table-row":
        cells = []
        for cell in node:
            inner: list[str] = []
            _children(cell, inner)
            repeated = attribute(cell, "number-columns-repeated")
            times = int(repeated) if repeated.isdigit() else 1
            cells += ["".join(inner).strip().replace("\n", " ")] * min(times, MOST_REPEATED)
        row = "\t".join(cells).rstrip()
        parts.append(row + "\n" if row else "")
        return
    if name == "s":
        count = attribute(node, "c")
        parts.append(" " * min(int(count) if count.isdigit() else 1, MOST_REPEATED))
    elif name in ("tab", "line-break"):
        parts.append("\t" if name == "tab" else "\n")
    elif name == "note-citation":
        parts.append(f" [{node.text or ''}]")
    elif name == "note-body":
        inner = []
        _children(node, inner)
        parts.append(f" ({' '.join(''.join(inner).split())})")
    else:
        if name in ("p", "h", "span", "a", "ruby-base", "meta", "title", "bookmark-ref", "reference-ref", "sequence"):
            parts.append(node.text or "")
        _children(node, parts)
        if name in ("p", "h"):
            parts.append("\n" if local(node.getparent()) in ("list-item", "table-cell") else "\n\n")
        elif name in ("page", "table"):
            parts.append("\n\n")


def _children(node: Any, parts: list[str]) -> None:
    text = local(node) in ("p", "h", "span", "a")
    for child in node:
        _write(child, parts)
        if text:
            parts.append(child.tail or "")
