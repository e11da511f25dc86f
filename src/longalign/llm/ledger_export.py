"""Exports ledgers of paid calls as JSON lines, for people and spreadsheets. Read-only; a run may continue meanwhile."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from longalign.base.files import write_jsonl
from longalign.errors import RunError

ENDING = "ledger.sqlite"
REPLIES = (
    "SELECT key, model, kind, outcome, ends_with AS prompt_ends_with, prompt_tokens, completion_tokens, cost_usd, "
    "created FROM replies ORDER BY created, key"
)
LOST = "SELECT key, 'lost' AS kind, reason, cost_usd FROM lost_calls ORDER BY id"


def export_calls(place: Path, out: Path) -> dict[str, Any]:
    """Write every call of the ledgers at `place` into `out`, a line each; returns counts and the money spent.

    `place`: a ledger, a row file that `data build` wrote, or a folder (of a run), in which all ledgers are taken. Lost
    calls stand there too, as kind `lost`, so that the lines add up to what was spent; money is None where a price is
    unknown. Raises `RunError` where there is no ledger.
    """
    files = ledgers_at(place)
    calls, spent_usd = 0, 0.0
    unpriced = False

    def lines() -> Iterator[dict[str, Any]]:
        nonlocal calls, spent_usd, unpriced
        for file in files:
            for call in calls_of(file):
                calls += 1
                unpriced |= call["cost_usd"] is None
                spent_usd += call["cost_usd"] or 0.0
                yield {"ledger": str(file), **call}

    write_jsonl(out, lines())
    return {"ledgers": len(files), "calls": calls, "spent_usd": None if unpriced else spent_usd, "out": str(out)}


def ledgers_at(place: Path) -> list[Path]:
    """The ledgers that `place` means, in order of their names."""
    if place.is_dir():
        files = sorted(place.rglob(f"*{ENDING}"))
    else:
        beside = place.with_name(f"{place.stem}.{ENDING}")
        files = [file for file in ([place] if place.name.endswith(ENDING) else [beside]) if file.exists()]
    if not files:
        raise RunError(f"{place}: no ledger of paid calls here; give a run folder, a built row file, or a *.{ENDING}")
    return files


def calls_of(file: Path) -> Iterator[dict[str, Any]]:
    """The calls of one ledger, oldest first, then those that were lost."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            for query in (REPLIES, LOST):
                for row in database.execute(query):
                    call = dict(row)
                    yield call | ({"outcome": json.loads(call["outcome"])} if "outcome" in call else {})
    except sqlite3.DatabaseError as error:
        raise RunError(f"{file}: cannot be read as a ledger ({error})") from None
