"""Pages of a PDF as one text: heads, feet and page numbers removed, hyphenated words joined, ligatures spelled out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from longalign.errors import UnreadableError

HYPHEN = "\ufffe"
"""What PDFium puts for a hyphen that ends a line (U+0002 in older versions)."""
EDGE_LINES = 3
LONGEST_HEAD = 120
RECURS_ON_PAGES = 3
WORST_GLYPHS = 0.05
LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
BULLETS = {0xF0B7: "•", 0xF0A7: "•", 0xF0D8: "•", 0xF076: "•", 0xF0FC: "✓", 0xF02D: "-", 0xF0E0: "→"}
ROMAN = re.compile(r"[ivxlc]{1,7}")
NUMBER_AT_EDGE = re.compile(r"^(?:page\s+)?(\d{1,5})\b(?!\.\d)|\b(\d{1,5})$", re.IGNORECASE)


def joined_pages(pages: Sequence[str]) -> str:
    """The text of pages in order. Raises `UnreadableError` where its fonts give glyph numbers instead of letters."""
    clean = [_clean(page) for page in pages]
    _refuse_glyphs("".join(clean))
    lines = without_heads([[line.rstrip() for line in page.split("\n")] for page in clean])
    text = ""
    for page in lines:
        body = "\n".join(page).strip("\n")
        if body:
            goes_on = bool(text) and (text.endswith(HYPHEN) or (text[-1] not in ".!?:。！？" and body[0].islower()))
            text += ("" if not text else "\n" if goes_on else "\n\n") + body
    return re.sub(r"\n{3,}", "\n\n", join_hyphens(text)).strip()


def _clean(page: str) -> str:
    text = page.replace("\r\n", "\n").replace("\r", "\n").replace("\x02", HYPHEN)
    text = text.translate({**LIGATURES, **BULLETS, 0xAD: HYPHEN, 0xA0: " "})
    text = re.sub(f"{HYPHEN}(?!\n)", f"{HYPHEN}\n", text)
    return unicodedata.normalize("NFC", re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text))


def _refuse_glyphs(text: str) -> None:
    seen = sum(not char.isspace() for char in text)
    bad = len(re.findall("[\ue000-\uf8ff\ufffd]", text))
    if seen and bad > WORST_GLYPHS * seen:
        raise UnreadableError(f"PDF whose fonts give no letters ({100 * bad / seen:.0f}% unknown glyphs)")


def without_heads(pages: Sequence[list[str]]) -> list[list[str]]:
    """Lines of pages without running heads, feet and page numbers.

    A line at a page's edge goes if it stands at that edge of three pages (numbers aside), or carries the page's number:
    the one that grows with the pages of most of the file.
    """
    texts = [[line for line in page if line.strip()] for page in pages]
    shapes = Counter(
        shape for page in texts for shape in {(top, _shape(line)) for top in (True, False) for line in _edge(page, top)}
    )
    offset = _page_offset(texts)
    kept = []
    for index, (page, filled) in enumerate(zip(pages, texts, strict=True)):
        gone: set[int] = set()
        for top in (True, False):
            edge = [number for number, line in enumerate(page) if line.strip()]
            edge = edge[:EDGE_LINES] if top else edge[::-1][:EDGE_LINES]
            for number in edge:
                line = page[number].strip()
                often = shapes[(top, _shape(line))] >= RECURS_ON_PAGES and len(line) <= LONGEST_HEAD
                if not (often or _has_number(line, index, offset) or (len(filled) > 1 and ROMAN.fullmatch(line))):
                    break
                gone.add(number)
        kept.append([line.replace("\ue000", "") for number, line in enumerate(page) if number not in gone])
    return [[re.sub("[\ue000-\uf8ff]", "", line) for line in page] for page in kept]


def _edge(page: list[str], top: bool) -> list[str]:
    return page[:EDGE_LINES] if top else page[-EDGE_LINES:]


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", " ".join(line.split()))


def _page_offset(pages: Sequence[list[str]]) -> int | None:
    """Printed number less the page's place, if the same for a third of the pages, and five or more."""
    found: Counter[int] = Counter()
    for index, page in enumerate(pages):
        numbers = {number for line in (*page[:1], *page[-1:]) for number in _numbers(line)}
        found.update(number - index for number in numbers)
    if not found:
        return None
    offset, count = found.most_common(1)[0]
    return offset if count >= max(RECURS_ON_PAGES + 2, len(pages) / 3) else None


def _numbers(line: str) -> list[int]:
    return [int(first or last) for first, last in NUMBER_AT_EDGE.findall(line.strip())]


def _has_number(line: str, index: int, offset: int | None) -> bool:
    return offset is not None and len(line) <= LONGEST_HEAD and index + offset in _numbers(line)


def join_hyphens(text: str) -> str:
    """Words that were split at line ends, whole again; the hyphen stays where the text elsewhere writes it."""
    words = Counter(re.findall(r"\w+(?:-\w+)*", text.lower()))

    def join(match: re.Match[str]) -> str:
        first, second = match[1], match[2]
        whole, hyphened = words[(first + second).lower()], words[f"{first}-{second}".lower()]
        keep = hyphened > whole or (not whole and (second[:1].isupper() or not second[:1].isalpha()))
        return f"{first}-{second}" if keep else first + second

    text = re.sub(rf"([\w-]+){HYPHEN}\n\s*([\w-]+)", join, text)
    return re.sub(rf"{HYPHEN}\n?", "-", text)
