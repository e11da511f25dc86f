"""One walk over a parsed page that writes its text."""

from __future__ import annotations

import re
from typing import Any

from lxml import etree
from lxml import html as lxml_html

SILENT = frozenset(
    [
        "script",
        "style",
        "noscript",
        "template",
        "svg",
        "head",
        "iframe",
        "object",
        "select",
        "option",
        "button",
        "rt",
        "rp",
        "canvas",
        "audio",
        "video",
    ]
)
FURNITURE = frozenset(["nav", "footer"])
OUTER_FURNITURE = frozenset(["header", "aside"])
"""Furniture outside of `main` and `article`; inside, an article's head and its notes."""
ROLES = frozenset(
    ["navigation", "banner", "contentinfo", "search", "dialog", "alertdialog", "complementary", "menu", "menubar"]
)
NAMED = re.compile(
    r"(?:^|[\s_-])(?:cookies?|gdpr|cookieconsent|consent|navbar|navigation|breadcrumbs?|sidebar|sphinxsidebar|navheader"
    r"|navfooter|headerlink|skip-?link|newsletter|share-buttons|social-share|sharedaddy|page-footer|site-footer|site-header"
    r"|mw-editsection|noprint|catlinks|printfooter|screen-reader-text|sr-only|popup|advert(?:isement)?)(?:$|[\s_-])",
    re.IGNORECASE,
)
BLOCK = frozenset(
    [
        "p",
        "div",
        "section",
        "article",
        "main",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "table",
        "pre",
        "blockquote",
        "figure",
        "figcaption",
        "dl",
        "hr",
        "header",
        "footer",
        "nav",
        "aside",
        "form",
        "fieldset",
        "details",
        "summary",
        "address",
        "caption",
        "center",
        "body",
    ]
)
LINE = frozenset(["br", "li", "tr", "dt", "dd"])
PRE = frozenset(["pre", "listing", "xmp", "textarea"])
GLUED_POWER = re.compile(r"\w$")


def parsed(page: str) -> Any:
    """The tree of a page, or None for an empty one. Anything that is called HTML is parsed somehow."""
    data = re.sub(r"^\s*<\?xml[^>]*\?>", "", page).encode("utf-8", "replace")
    try:
        return lxml_html.document_fromstring(
            data or b" ", parser=lxml_html.HTMLParser(encoding="utf-8", huge_tree=True, remove_comments=True)
        )
    except (etree.ParserError, etree.XMLSyntaxError):
        return None


class Walk:
    """Writes text while going over the tree once; `furniture` keeps navigation, heads and feet too."""

    def __init__(self, furniture: bool) -> None:
        self.furniture = furniture
        self.parts: list[str] = []
        self.preformatted = 0
        self.main = 0

    def text(self, root: Any) -> str:
        """The text of everything below `root`."""
        walk = etree.iterwalk(root, events=("start", "end"))
        for event, node in walk:
            if not isinstance(node.tag, str):
                if event == "end":
                    self._data(node.tail)
                continue
            tag = node.tag.lower()
            if event == "start":
                formula = _formula(node, tag)
                if formula or self._left_out(node, tag):
                    self._data(formula)
                    self._data(node.tail)
                    for child in node.iter():
                        child.set("longalign-done", "") if isinstance(child.tag, str) else None
                    walk.skip_subtree()
                    continue
                self._start(node, tag)
                self._data(node.text)
            elif "longalign-done" in node.attrib:
                del node.attrib["longalign-done"]
            else:
                self._end(tag)
                self._data(node.tail)
        text = re.sub(r"[ \t]+\n", "\n", "".join(self.parts))
        return re.sub(r"\n{3,}", "\n\n", text).strip()

    def _left_out(self, node: Any, tag: str) -> bool:
        if tag in SILENT:
            return True
        if self.furniture or tag in ("html", "body"):
            return False
        if tag in FURNITURE or node.get("role", "").lower() in ROLES or "hidden" in node.attrib:
            return True
        if tag in OUTER_FURNITURE and not self.main:
            return True
        named = f"{node.get('class', '')} {node.get('id', '')}"
        if named != " " and NAMED.search(named):
            return True
        return re.search(r"display\s*:\s*none", node.get("style", "")) is not None

    def _start(self, node: Any, tag: str) -> None:
        if tag in ("main", "article"):
            self.main += 1
        if tag in BLOCK:
            self._break("\n\n")
        elif tag in LINE:
            self._break("\n")
        if tag in PRE:
            self.preformatted += 1
        if tag in ("td", "th") and self.parts and not self.parts[-1].endswith("\n"):
            self.parts.append(" | ")
        elif tag == "sup" and GLUED_POWER.search(self.parts[-1] if self.parts else ""):
            self.parts.append(" " if node.find(".//a") is not None else "^")

    def _end(self, tag: str) -> None:
        if tag in ("main", "article"):
            self.main -= 1
        if tag in PRE:
            self.preformatted -= 1
        if tag in BLOCK and tag != "hr":
            self._break("\n\n" if tag in ("p", "pre", "table") else "\n")

    def _break(self, lines: str) -> None:
        if self.parts:
            self.parts.append(lines)

    def _data(self, data: str | None) -> None:
        if not data:
            return
        if self.preformatted:
            self.parts.append(data)
            return
        flowing = re.sub(r"[ \t\r\n\f\xa0]+", " ", data)
        if not self.parts or self.parts[-1].endswith(("\n", " ")):
            flowing = flowing.lstrip(" ")
        if flowing:
            self.parts.append(flowing)


def _formula(node: Any, tag: str) -> str:
    """LaTeX of MathML, of a MathJax script or of a formula drawn as an image; else empty."""
    if tag == "math":
        source = node.get("alttext") or ""
        for note in node.iter("annotation"):
            if "tex" in note.get("encoding", "").lower():
                source = note.text or source
        if not source:
            source = " ".join("".join(node.itertext()).split())
        return f"${source.strip()}$" if source.strip() else ""
    if tag == "script" and node.get("type", "").startswith("math/tex"):
        return f"${(node.text or '').strip()}$"
    if tag == "img" and re.search(r"\b(?:math|latex|tex)\b", node.get("class", "")):
        return f"${node.get('alt', '').strip()}$"
    return ""
