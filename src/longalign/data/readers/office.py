"""Word and PowerPoint: paragraphs, tables, text boxes once, formulas, notes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longalign.data.readers.archive import Archive, archive, attribute, local
from longalign.data.readers.raw import RawDocument

NOT_TEXT = frozenset(
    ["Fallback", "del", "moveFrom", "instrText", "delText", "pPr", "rPr", "sectPr", "tblPr", "trPr", "tcPr"]
)
"""`Fallback` is the same text box again, for old programs; deleted and moved text is not in the document."""
BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}


def docx(path: Path) -> Iterator[RawDocument]:
    """A Word file: its body, then its foot- and endnotes."""
    with archive(path) as file:
        main = _main_part(file, "word/document.xml")
        text = _text(file.xml(main))
        for kind in ("footnotes", "endnotes"):
            name = posixpath.join(posixpath.dirname(main), f"{kind}.xml")
            if name in file.names:
                notes = [
                    n for n in file.xml(name) if attribute(n, "type") not in ("separator", "continuationSeparator")
                ]
                text += "".join(f"\n[{attribute(note, 'id')}] {_text(note).strip()}" for note in notes)
        yield RawDocument(text, _core_title(file))


def pptx(path: Path) -> Iterator[RawDocument]:
    """A presentation: its slides in order, each with its speaker's notes."""
    with archive(path) as file:
        main = _main_part(file, "ppt/presentation.xml")
        targets = _relations(file, main)
        ids = [attribute(node, "id") for node in file.xml(main).iter() if local(node) == "sldId"]
        relation = [
            next((v for k, v in node.attrib.items() if k.startswith("{")), "")
            for node in file.xml(main).iter()
            if local(node) == "sldId"
        ]
        slides = [targets[name][1] for name in (relation or ids) if name in targets]
        texts = []
        for slide in slides:
            text = _text(file.xml(slide)).strip()
            for kind, target in _relations(file, slide).values():
                if kind == "notesSlide":
                    text += f"\n\n{_text(file.xml(target)).strip()}"
            texts.append(re.sub(r"\n{3,}", "\n\n", text).strip())
        yield RawDocument("\n\n".join(text for text in texts if text), _core_title(file))


def _text(root: Any) -> str:
    """Text of runs and formulas; a line a paragraph, a line a table row."""
    parts: list[str] = []
    _write(root, parts)
    return re.sub(r"[ \t]+\n", "\n", "".join(parts)).strip("\n")


def _write(node: Any, parts: list[str]) -> None:
    name = local(node)
    if name in NOT_TEXT:
        return
    if name == "t":
        parts.append(node.text or "")
    elif name in BREAKS and (name != "tab" or local(node.getparent()) == "r"):
        parts.append(BREAKS[name])
    elif name in ("footnoteReference", "endnoteReference"):
        parts.append(f"[{attribute(node, 'id')}]")
    elif name == "tr":
        cells = [
            _text(cell).replace("\n", " ") for cell in node.iter() if local(cell) == "tc" and _row_of(cell) is node
        ]
        parts.append(" | ".join(cells) + "\n" if any(cells) else "")
    elif name == "txbxContent":
        parts.append("\n" + _text_of_children(node) + "\n")
    elif name == "sp" and local(node.getparent()) in ("spTree", "grpSp"):
        _children(node, parts)
        parts.append("\n")
    elif name == "fld" and attribute(node, "type") in ("slidenum", "datetime"):
        return
    else:
        _children(node, parts)
        if name == "p":
            parts.append("\n")


def _children(node: Any, parts: list[str]) -> None:
    for child in node:
        _write(child, parts)


def _text_of_children(node: Any) -> str:
    parts: list[str] = []
    _children(node, parts)
    return "".join(parts).strip("\n")


def _row_of(cell: Any) -> Any:
    node = cell.getparent()
    while node is not None and local(node) != "tr":
        node = node.getparent()
    return node


def _relations(file: Archive, part: str) -> dict[str, tuple[str, str]]:
    """Id -> (kind, member) of what a part refers to inside the archive."""
    folder, name = posixpath.split(part)
    member = posixpath.join(folder, "_rels", f"{name}.rels")
    if member not in file.names:
        return {}
    found = {}
    for node in file.xml(member):
        if node.get("TargetMode") != "External":
            target = node.get("Target", "")
            target = (
                target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
            )
            if target in file.names:
                found[node.get("Id", "")] = (node.get("Type", "").rpartition("/")[2], target)
    return found


def _main_part(file: Archive, usual: str) -> str:
    """The part that holds the document: rarely not the usual name."""
    parts = [target for kind, target in _relations(file, "").values() if kind == "officeDocument"]
    return parts[0] if parts else usual


def _core_title(file: Archive) -> str:
    if "docProps/core.xml" not in file.names:
        return ""
    title = next((node.text or "" for node in file.xml("docProps/core.xml") if local(node) == "title"), "")
    return "" if title.lower() in ("word document", "powerpoint presentation") else title
