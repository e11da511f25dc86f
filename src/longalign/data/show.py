"""Verb `data show`: rows as a person reads them, and which of their tokens carry loss."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from longalign.base.tokenizers import open_tokenizer
from longalign.data.row_counts import FileRows
from longalign.data.source import read_rows

HEAD_CHARS = 300
TAIL_CHARS = 500
PICTURE_CELLS = 80
SHOWN_TARGETS = 60


def show_rows(file: Path, *, rows: int = 3, tokenizer: str | None = None) -> None:
    """Print the first rows of a file; with a tokenizer also a picture of each row's targets."""
    left_out: Counter[str] = Counter()
    loaded = None if tokenizer is None else open_tokenizer(tokenizer)
    for row in islice(read_rows(file, left_out=left_out), rows):
        print(row_text(row))
        if loaded is not None:
            print(target_picture(loaded, row))
        print()
    print(f"{file}: {FileRows.of(left_out).words}")


def row_text(row: Mapping[str, Any]) -> str:
    """One row: its metadata, then its turns with the middle of long ones left out."""
    known = ("source", "task", "language", "length_tokens", "title", "model", "support")
    facts = [f"{key}: {row[key]}" for key in known if row.get(key) not in (None, "", [])]
    facts += [f"tools: {', '.join(tool['function']['name'] for tool in row['tools'])}"] if row.get("tools") else []
    facts += [f"{name}: {value}" for name, value in (row.get("chat_template_kwargs") or {}).items()]
    lines = [f"=== {row['id']} ===", ", ".join(facts)] if facts else [f"=== {row['id']} ==="]
    for message in row["messages"]:
        calls = [json.dumps(message["tool_calls"], ensure_ascii=False)] if message.get("tool_calls") else []
        role = message["role"] if message.get("train", True) else f"{message['role']}, not trained"
        lines.append(f"[{role}] {_middle_left_out(' '.join([*filter(None, [message.get('content')]), *calls]))}")
    for entry in row.get("evidence") or ():
        if isinstance(entry, Mapping) and "position" in entry:
            lines.append(f"  evidence at {entry['position']:.0%}: {' '.join(str(entry.get('text', '')).split())[:120]}")
    return "\n".join(lines)


def target_picture(tokenizer: Any, row: Mapping[str, Any]) -> str:
    """A bar of the row's tokens (# where most are targets, : where some, . where none), and the text of the targets."""
    from longalign.data.tokenize import sequence_of_row

    sequence = sequence_of_row(tokenizer, row)
    total, targets = sequence.length_tokens, sequence.target_count
    cells = min(PICTURE_CELLS, total)
    bar = ""
    for cell in range(cells):
        part_T = sequence.target_T[cell * total // cells : (cell + 1) * total // cells]
        bar += "#" if part_T.mean() > 0.5 else ":" if part_T.any() else "."
    shown = tokenizer.convert_ids_to_tokens(sequence.ids_T[sequence.target_T][:SHOWN_TARGETS].tolist())
    more = "" if targets <= SHOWN_TARGETS else f" ... ({targets - SHOWN_TARGETS} more)"
    return f"tokens: {total}, targets: {targets}\n{bar}\ntargets: {' '.join(map(str, shown))}{more}"


def _middle_left_out(text: str) -> str:
    if len(text) <= HEAD_CHARS + TAIL_CHARS + 100:
        return text
    left_out = len(text) - HEAD_CHARS - TAIL_CHARS
    return f"{text[:HEAD_CHARS]}\n   [... {left_out:,} characters ...]\n{text[-TAIL_CHARS:]}"
