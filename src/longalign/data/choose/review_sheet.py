"""The sheet of a review: what is exported, what comes back, and cells that no spreadsheet runs as a formula."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_path, write_jsonl
from longalign.errors import ConfigError, DataError

DECISIONS = ("keep", "drop", "edit")
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
"""What a cell must not begin with as it stands: it is written behind an apostrophe, and read back without it."""
LARGEST_CELL = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the sheet. `turn`: which question of the row, from 0. The last five columns are the person's;
    an empty `decision` is undecided."""

    id: str
    hash: str
    turn: int
    why: str
    question: str
    answer: str
    evidence: str
    decision: str = ""
    edited_question: str = ""
    edited_answer: str = ""
    note: str = ""
    by: str = ""


COLUMNS = tuple(field.name for field in fields(Line))


def check_form(path: Path) -> None:
    if path.suffix not in (".csv", ".jsonl"):
        raise ConfigError(f"{path}: a review is a .csv or .jsonl file")


def write_sheet(out: Path, lines: Iterable[Line]) -> None:
    if out.suffix == ".jsonl":
        write_jsonl(out, (asdict(line) for line in lines))
        return
    with atomic_path(out) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([_guarded(str(value)) for value in asdict(line).values()] for line in lines)


def read_sheet(sheet: Path) -> Iterator[tuple[int, Line]]:
    """(line or number of the row, what it says)."""
    check_form(sheet)
    try:
        if sheet.suffix == ".jsonl":
            rows: list[dict[str, Any]] = [
                json.loads(line) for line in sheet.read_text(encoding="utf-8").split("\n") if line.strip()
            ]
        else:
            csv.field_size_limit(LARGEST_CELL)
            with sheet.open(encoding="utf-8-sig", newline="") as stream:
                rows = [
                    {key: _unguarded(value or "") for key, value in row.items() if key in COLUMNS}
                    for row in csv.DictReader(stream)
                ]
    except FileNotFoundError:
        raise DataError(f"{sheet}: no such file") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{sheet}: cannot be read ({error}); save it as UTF-8 .csv with commas") from None
    for number, row in enumerate(rows, 1 if sheet.suffix == ".jsonl" else 2):
        missing = [name for name in ("id", "hash", "turn", "decision") if name not in row]
        if missing:
            raise DataError(f"{sheet}:{number}: column `{missing[0]}` is missing; keep the exported columns")
        known: dict[str, Any] = {name: row.get(name) or "" for name in COLUMNS}
        known["decision"] = str(row["decision"]).strip().lower()
        try:
            line = Line(**known | {"turn": int(row["turn"])})
        except (TypeError, ValueError):
            raise DataError(f"{sheet}:{number}: column `turn` holds {row['turn']!r}, no number") from None
        _check(line, f"{sheet}:{number}")
        yield number, line


def _guarded(text: str) -> str:
    return f"'{text}" if text.startswith(RISKY) else text


def _unguarded(text: str) -> str:
    return text[1:] if text[:1] == "'" and text[1:].startswith(RISKY) else text


def _check(line: Line, where: str) -> None:
    if line.decision not in ("", *DECISIONS):
        raise DataError(f"{where}: decision `{line.decision}`; it must be {', '.join(DECISIONS)} or empty")
    edited = bool(line.edited_question.strip() or line.edited_answer.strip())
    if line.decision == "edit" and not edited:
        raise DataError(f"{where}: decision `edit` without `edited_question` or `edited_answer`")
    if line.decision != "edit" and edited:
        raise DataError(f"{where}: there is an edited text, and the decision is `{line.decision}`; write `edit`")
