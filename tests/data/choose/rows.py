"""Rows like those of a build, made of words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def row(number: int, *, document: str = "", question: str = "", answer: str = "", **more: Any) -> Row:
    """A row about a document of its own, unless one is given."""
    text = document or f"The ledger of house {number} lists {number + 3} chairs. Nobody counted the lamps."
    asked = question or f"How many chairs does house {number} have?"
    said = answer or f"House {number} has {number + 3} chairs."
    messages = [{"role": "user", "content": f"{text}\n\n{asked}"}, {"role": "assistant", "content": said}]
    return {"id": f"row-{number}", "messages": messages, "document": f"doc-{text[:40]}", **more}


def write(path: Path, rows: Iterable[Row]) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
