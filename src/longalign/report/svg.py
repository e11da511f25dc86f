"""Small pure pieces of SVG. Every text and attribute passes through `tag`, which escapes it."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

Attribute = str | float | int | None


def tag(name: str, *children: str, **attributes: Attribute) -> Markup:
    """An element. Text children are escaped, elements kept; `_` in names becomes `-`, a trailing one goes.

    None leaves an attribute out; numbers are written short.
    """
    parts = [
        f'{key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    head = " ".join([name, *parts])
    inside = "".join(str(escape(child)) for child in children)
    return Markup(f"<{head}>{inside}</{name}>")


def group(children: Iterable[Markup], **attributes: Attribute) -> Markup:
    """A `<g>` of elements."""
    return tag("g", *children, **attributes)


def picture(width: float, height: float, children: Iterable[Markup], *, title: str, class_: str = "") -> Markup:
    """A whole drawing that scales with its column and says to screen readers what it shows."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {_short(width)} {_short(height)}",
        role="img",
        aria_label=title,
        class_=f"figure {class_}".strip(),
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", class_: str = "") -> Markup:
    """A line of text."""
    return tag("text", words, x=x, y=y, text_anchor=anchor, class_=class_ or None)


def _short(value: Attribute) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
