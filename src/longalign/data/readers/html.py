"""Web pages: the whole text, without page furniture (decision 0009 says why not only the "main" text)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from longalign.data.readers.decode import text_of
from longalign.data.readers.html_walk import Walk, parsed
from longalign.data.readers.raw import RawDocument

LEAST_SHARE = 0.1


def html(path: Path) -> Iterator[RawDocument]:
    """A web page, with its title."""
    yield RawDocument(*html_text(text_of(path)))


def html_text(html: str) -> tuple[str, str]:
    """(text, title) of a page: blocks on lines of their own, cells divided by ` | `, formulas as LaTeX if it is there.

    Where leaving out the furniture leaves next to nothing, the furniture was the page, and all of it is kept.
    """
    root = parsed(html)
    if root is None:
        return "", ""
    bare = Walk(furniture=False).text(root)
    whole = Walk(furniture=True).text(root)
    if len(bare) < LEAST_SHARE * len(whole):
        bare = whole
    title = next((node.text_content() for node in root.iter("title", "h1") if node.text_content().strip()), "")
    return bare, re.sub(r"\s+", " ", title).strip(" ¶")
