"""Whose questions they are: a reader or a real user's request, drawn by seed, for more different questions.

Without them a model asks the same few things of every document. `intents` takes real requests from a file
of the user's: `.jsonl` with `intent`, `question`, `prompt`, `instruction`, `text` or `messages`, else lines of text.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from longalign.base.files import random_for
from longalign.config import DataSettings
from longalign.errors import DataError
from longalign.llm.check_prompts import readers, write
from longalign.llm.prompt import Wording

FIELDS = ("intent", "question", "prompt", "instruction", "text")
LONGEST_CHARS = 2000


def with_wishes(request: str, settings: DataSettings, language: Wording, *key: str | int) -> str:
    """The call for questions, with the reader and the intent that the key draws; the same text where both are off."""
    if settings.readers:
        choice = readers(language)
        drawn = choice[int(random_for(settings.seed, "reader", *key).integers(len(choice)))]
        request = write("reader", language, before=request, reader=drawn)
    if settings.intents is not None:
        real = read_intents(intents_file(settings.intents))
        drawn = real[int(random_for(settings.seed, "intent", *key).integers(len(real)))]
        request = write("intent", language, before=request, intent=drawn)
    return request


def intents_file(name: str) -> Path:
    """The file of `intents`. Raises `DataError` if it is not there."""
    path = Path(name)
    if not path.is_file():
        raise DataError(f"{name}: no such file; correct --intents (a text file of lines, or .jsonl)")
    return path


@cache
def read_intents(path: Path) -> tuple[str, ...]:
    """The requests in a file, each once, in order. Raises `DataError` naming the line that holds none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); correct --intents") from None
    found: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            text = _intent(line, f"{path}:{number}") if path.suffix == ".jsonl" else line
            found.setdefault(" ".join(text.split())[:LONGEST_CHARS])
    found.pop("", None)
    if not found:
        raise DataError(f"{path}: holds no request; correct --intents")
    return tuple(found)


def _intent(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        raise DataError(f'{where}: not valid JSON; an intent is a line such as {{"intent": "..."}}') from None
    if isinstance(row, str):
        return row
    if isinstance(row, dict):
        texts: list[Any] = [row.get(name) for name in FIELDS]
        texts += [
            m.get("content") for m in row.get("messages") or () if isinstance(m, dict) and m.get("role") == "user"
        ]
        for text in texts:
            if isinstance(text, str) and text.strip():
                return text
    raise DataError(f"{where}: no request in it; give `intent` (also read: {', '.join(FIELDS[1:])}, messages)")
