"""Verb `data show`: rows as a person reads them, and which of their tokens carry loss."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from longalign.base.tokenizers import open_tokenizer, read_chat_template
from longalign.data.row_counts import FileRows
from longalign.data.source import read_rows
from longalign.errors import ConfigError, DataError

SHOWN_ROWS = 3
HEAD_CHARS = 300
TAIL_CHARS = 500
PICTURE_CELLS = 80
SHOWN_TARGETS = 60


def show_rows(
    file: Path,
    *,
    rows: int | None = None,
    tokenizer: str | None = None,
    chat_template: str | None = None,
    as_json: bool = False,
    **how: Any,
) -> None:
    """Print the first `rows` of a file (3), with a tokenizer also a picture of each row's targets.

    `how` goes to `tokenize_conversation`. `as_json`: one object of the tokens of `rows` rows (all), and everything else
    to stderr. Raises `DataError` naming the row that cannot be read or whose targets cannot be told exactly, before
    anything of it is printed.
    """
    left_out: Counter[str] = Counter()
    if tokenizer is None and (as_json or chat_template):
        raise ConfigError(f"{'--json' if as_json else '--chat_template'} shows tokens: give the tokenizer too")
    loaded = None if tokenizer is None else open_tokenizer(tokenizer)
    if loaded is not None and chat_template is not None:
        loaded.chat_template = read_chat_template(chat_template)
    counts: Counter[str] = Counter()
    limit = rows if rows is not None or as_json else SHOWN_ROWS
    found = []
    for number, row in enumerate(islice(read_rows(file, left_out=left_out), limit), 1):
        try:
            if as_json:
                found.append({"id": row["id"], "tokens": tokens_of_row(loaded, row, counts=counts, **how)})
                continue
            picture = "" if loaded is None else target_picture(loaded, row, counts=counts, **how) + "\n"
        except DataError as error:
            raise DataError(f"{file.name} row {number}: {error}") from None
        print(f"{row_text(row)}\n{picture}")
    print(f"{file}: {FileRows.of(left_out).words}", file=sys.stderr if as_json else sys.stdout)
    if counts:
        from longalign.data.tokenize import say_notices

        say_notices(counts)
    if as_json:
        print(json.dumps({"rows": found}, ensure_ascii=False))


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


def target_picture(tokenizer: Any, row: Mapping[str, Any], **how: Any) -> str:
    """A bar of the row's tokens (# where most are targets, : where some, . where none), and the text of the targets."""
    from longalign.data.tokenize import sequence_of_row

    sequence = sequence_of_row(tokenizer, row, **how)
    total, targets = sequence.length_tokens, sequence.target_count
    cells = min(PICTURE_CELLS, total)
    bar = ""
    for cell in range(cells):
        part_T = sequence.target_T[cell * total // cells : (cell + 1) * total // cells]
        bar += "#" if part_T.mean() > 0.5 else ":" if part_T.any() else "."
    shown = tokenizer.convert_ids_to_tokens(sequence.ids_T[sequence.target_T][:SHOWN_TARGETS].tolist())
    more = "" if targets <= SHOWN_TARGETS else f" ... ({targets - SHOWN_TARGETS} more)"
    return f"tokens: {total}, targets: {targets}\n{bar}\ntargets: {' '.join(map(str, shown))}{more}"


def tokens_of_row(tokenizer: Any, row: Mapping[str, Any], **how: Any) -> list[dict[str, Any]]:
    """Every token of a row: `id`, `text`, `target`.

    The texts laid end to end are the row's text: of a character in several tokens, the last one has it.
    """
    from tokenizers.decoders import DecodeStream

    from longalign.data.tokenize import sequence_of_row

    sequence = sequence_of_row(tokenizer, row, **how)
    stream = DecodeStream(skip_special_tokens=False)
    return [
        {"id": number, "text": stream.step(tokenizer.backend_tokenizer, number) or "", "target": target}
        for number, target in zip(sequence.ids_T.tolist(), sequence.target_T.tolist(), strict=True)
    ]


def _middle_left_out(text: str) -> str:
    if len(text) <= HEAD_CHARS + TAIL_CHARS + 100:
        return text
    left_out = len(text) - HEAD_CHARS - TAIL_CHARS
    return f"{text[:HEAD_CHARS]}\n   [... {left_out:,} characters ...]\n{text[-TAIL_CHARS:]}"
