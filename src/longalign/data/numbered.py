"""Reads the numbered questions out of a model's reply."""

from __future__ import annotations

import re

MARK = r"[:：.．)）、]"
ITEM = re.compile(
    r"^[\s>*_#-]*(?:"
    rf"(?:question|q|问题|问)?\s*[(（\[]?\s*(?P<number>\d{{1,3}})\s*[*_]*{MARK}(?!\d)[*_]*|(?P<circled>[①-⑳]))"
    r"[ \t]*(?P<text>.*)$",
    re.IGNORECASE,
)


def numbered_items(reply: str, *, most: int) -> list[str]:
    """The items 1, 2, ... of a reply, at most `most`, in order, without their numbers.

    Accepts `1: `, `1. `, `1) `, `(1)`, `Q1:`, `问题1：`, full-width digits and marks, bold numbers, items over several
    lines, and a whole list on one line. Only the number that is due starts an item, so `11:`, `3.5` or a date inside
    an item never does. A blank line ends an item: comments before and after the list are no items.
    """
    text = reply.strip()
    items = _by_line(text)
    if len(items) < 2 <= most:
        items = _in_line(text) or items
    seen: dict[str, None] = {}
    for item in items:
        clean = item.strip().strip("*_").strip()
        if clean:
            seen.setdefault(clean)
    return list(seen)[:most]


def _by_line(text: str) -> list[str]:
    items: list[str] = []
    inside = False
    for line in text.split("\n"):
        match = ITEM.match(line)
        if match and _number(match) == len(items) + 1:
            items.append(match["text"].strip())
            inside = True
        elif not line.strip():
            inside = inside and not items[-1]  # a number alone on its line may be followed by a blank one
        elif inside:
            items[-1] = f"{items[-1]}\n{line.strip()}" if items[-1] else line.strip()
    return items


def _number(match: re.Match[str]) -> int:
    if match["circled"]:
        return ord(match["circled"]) - ord("①") + 1
    return int(match["number"])  # also of full-width digits


def _in_line(text: str) -> list[str]:
    """A list without line breaks: `1: What? 2: Why?`."""
    starts: list[tuple[int, int]] = []
    position = 0
    while match := re.compile(rf"(?:^|(?<=[\s?？。.!！]))[(（]?{len(starts) + 1}{MARK}(?!\d)\s*").search(
        text, position
    ):
        starts.append((match.start(), match.end()))
        position = match.end()
    if len(starts) < 2:
        return []
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [text[begin:end] for (_, begin), end in zip(starts, ends, strict=True)]
