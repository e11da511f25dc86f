"""`data review import`: a person's decisions become rows, with evidence and lengths of edited texts put right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longalign.core.text import words
from longalign.data.choose.given import (
    Given,
    Row,
    content_key,
    document_and_question,
    document_place,
    questions_of,
    read_given,
)
from longalign.data.choose.review_sheet import Line, read_sheet
from longalign.data.choose.row_out import check_out, write_rows
from longalign.data.verify import Passages
from longalign.errors import DataError
from longalign.llm.prompt import GAP

STALE = ("length_tokens", "length", "selection", "scores")
"""Fields that said something of the unedited texts; nothing here can measure them again."""


def import_review(name: str, sheet: Path, out: Path) -> dict[str, Any]:
    """Apply the sheet to the rows of `name` and write them to `out`.

    Kept, edited and undecided rows are written, dropped ones are not; those with a decision say so in `review`. Raises
    `DataError`, before anything is written, for a line that names no row, a row that changed, or an unclear decision.
    """
    check_out(out, [name, str(sheet)])
    waiting: dict[str, list[tuple[int, Line]]] = {}
    for number, line in read_sheet(sheet):
        waiting.setdefault(line.id, []).append((number, line))
    found = {given.id: content_key(given.row) for given in read_given(name) if given.id in waiting}
    for row_id, lines in waiting.items():
        for number, line in lines:
            if row_id not in found:
                raise DataError(f"{sheet}:{number}: no row {row_id} in {name}; was it exported from another file?")
            if found[row_id] != line.hash:
                raise DataError(f"{sheet}:{number}: row {row_id} of {name} changed since it was exported; export again")
        turns = [line.turn for _, line in lines]
        if len(set(turns)) < len(turns):
            raise DataError(f"{sheet}:{lines[-1][0]}: a second line for turn {lines[-1][1].turn} of row {row_id}")
    counts = {"keep": 0, "drop": 0, "edit": 0, "undecided": 0, "not in the sheet": 0}

    def rows() -> Iterator[dict[str, Any]]:
        for given in read_given(name):
            lines = [line for _, line in waiting.get(given.id, ())]
            decided = [line for line in lines if line.decision]
            kind = "not in the sheet" if not lines else "undecided" if not decided else _strongest(decided)
            counts[kind] += 1
            if kind == "drop":
                continue
            yield apply_line(given, decided) if decided else given.raw

    write_rows(out, rows())
    total = sum(counts.values()) - counts["drop"]
    said = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    return {"out": str(out), "rows": total, "decisions": counts, "text": f"{total:,} rows in {out} ({said})"}


def _strongest(lines: Sequence[Line]) -> str:
    return max((line.decision for line in lines), key=("keep", "edit", "drop").index)


def apply_line(given: Given, lines: Sequence[Line]) -> Row:
    """The row with `review`: decision, hash of the conversation that was reviewed, who and why where said.

    Of an edited turn, `support` and `evidence` are found again in the document, and `STALE` fields are taken out.
    """
    edits = [line for line in lines if line.decision == "edit"]
    review: Row = {"decision": "edit" if edits else "keep", "hash": content_key(given.row)}
    for name in ("by", "note"):
        if said := "; ".join(dict.fromkeys(getattr(line, name) for line in lines if getattr(line, name))):
            review[name] = said
    if not edits:
        return {**given.raw, "review": review}
    row = {name: value for name, value in given.row.items() if name not in STALE}
    row["messages"] = [dict(message) for message in row["messages"]]
    for line in edits:
        _edit(row, line)
    review["edited_turns"] = [line.turn for line in edits]
    return {**row, "review": review}


def _edit(row: Row, line: Line) -> None:
    users = [at for at, message in enumerate(row["messages"]) if message["role"] == "user"]
    answers = [at for at, message in enumerate(row["messages"]) if message["role"] == "assistant"]
    document, _ = document_and_question(row)
    with_document = document_place(row)
    if line.edited_question.strip():
        place = users[min(line.turn, len(users) - 1)]
        text = document + GAP + line.edited_question if document and place == with_document else line.edited_question
        row["messages"][place]["content"] = text
    if line.edited_answer.strip():
        row["messages"][answers[line.turn]]["content"] = line.edited_answer
    if not document or not isinstance(row.get("support"), list) or line.turn >= len(row["support"]):
        return
    asked = questions_of(row)
    question = asked[min(line.turn, len(asked) - 1)]
    answer = str(row["messages"][answers[line.turn]]["content"])
    support, evidence = Passages(document).support(answer, frozenset(words(question)))
    row["support"] = [round(support, 4) if at == line.turn else old for at, old in enumerate(row["support"])]
    kept: list[Any] = [entry for entry in row.get("evidence") or [] if entry.get("turn", 0) != line.turn]
    found = [
        {"turn": line.turn, "text": e.text, "start": e.start, "end": e.end, "position": e.position} for e in evidence
    ]
    row["evidence"] = sorted([*kept, *found], key=lambda entry: entry.get("turn", 0))
