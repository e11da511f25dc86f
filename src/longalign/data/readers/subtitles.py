"""Subtitles without numbers, times and tags (.srt, .vtt, .sbv)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from longalign.data.readers.decode import text_of
from longalign.data.readers.raw import RawDocument
from longalign.errors import UnreadableError

TIMES = re.compile(r"^\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*(?:-->|,)\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")
TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^}]*\}")


def subtitles(path: Path) -> Iterator[RawDocument]:
    """What is said, a cue's lines as they stand; a line that repeats the one before (rolling captions) once.

    The title is the file's name: the first words are anybody's.
    """
    said: list[str] = []
    cues = 0
    for block in re.split(r"\n[ \t]*\n", text_of(path).replace("\r\n", "\n").replace("\r", "\n")):
        lines = block.strip("\n").split("\n")
        start = next((number for number, line in enumerate(lines) if TIMES.match(line)), None)
        if start is None:
            continue  # a header, a style, a note
        cues += 1
        for line in lines[start + 1 :]:
            if TIMES.match(line):
                continue  # cues that no empty line divides
            clean = " ".join(unescape(TAG.sub("", line)).split())
            if clean and clean not in said[-2:]:
                said.append(clean)
    if not cues:
        raise UnreadableError("subtitles without times")
    yield RawDocument("\n".join(said), path.name)
