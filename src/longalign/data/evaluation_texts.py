"""The texts of evaluations, which documents must not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longalign.data.readers import parsed_lines
from longalign.errors import DataError


def evaluation_texts(paths: Sequence[str]) -> list[str]:
    """Every text in evaluation files: all string values of JSON files, paragraphs of others."""
    texts: list[str] = []
    for name in paths:
        path = Path(name)
        if not path.is_file():
            raise DataError(f"{name}: no such evaluation file; correct --decontaminate")
        content = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix in (".json", ".jsonl"):
            try:
                values = [json.loads(content)]
            except ValueError:
                values = [value for _, value in parsed_lines(content.split("\n"), path)]
            texts.extend(text for value in values for text in _strings(value))
        else:
            texts.extend(content.split("\n\n"))
    return texts


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
