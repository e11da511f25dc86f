"""Task `mt_bench`: short questions of two turns; the second is asked with the model's own first answer in context.

a row            question_id, category, turns [list], reference [list] or null
references       answers of a stronger model, reference_answer/*.jsonl: question_id, choices[0].turns

Protocol `fastchat` takes references from the file only, and only for the categories that FastChat compares with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longalign.errors import DataError
from longalign.eval.cases import Case, RowReader, first_given, read_rows
from longalign.eval.fastchat import check_references
from longalign.eval.judged import AssumedCases, JudgedTask
from longalign.eval.token_view import CJK


class MTBench(JudgedTask):
    """MT-Bench, judged by turn; the turns of a question count as one draw."""

    name = "mt_bench"
    title = "MT-Bench's turns"
    assumed = AssumedCases(160, (50, 1_000))
    protocols = ("own", "fastchat")

    def row_reader(self) -> RowReader:
        references = Path(self.settings.references) if self.settings.references else None
        return turn_rows(references, own=self.settings.protocol == "own")

    def cases(self) -> list[Case]:
        found = super().cases()
        if self.settings.protocol == "fastchat":
            check_references(found)
        return found


def turn_rows(references: Path | None = None, *, own: bool = True) -> RowReader:
    """Reads conversations, each turn a case that follows the one before; `own`: with the references in the rows."""
    written = _written_references(references) if references else {}

    def read_row(path: Path, prefix: str, number: int, row: Mapping[str, Any]) -> list[Case]:
        if "turns" not in row:
            raise DataError(f"{path}: case {number} has no `turns`; it is none of MT-Bench's")
        return _turns(f"{path}: case {number}", prefix, row if own else {**row, "reference": None}, written)

    return read_row


def _turns(where: str, prefix: str, row: Mapping[str, Any], written: Mapping[str, Sequence[str]]) -> list[Case]:
    """The turns of one MT-Bench question, each a case that follows the one before."""
    turns, name = row["turns"], str(first_given(row, "question_id", "key", default=""))
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) and turn for turn in turns):
        raise DataError(f"{where}: field `turns` must be a list of texts")
    if not name:
        raise DataError(f"{where}: field `question_id` is missing")
    references = written.get(name) or row.get("reference") or []
    if not isinstance(references, list) or not all(isinstance(text, str) for text in references):
        raise DataError(f"{where}: field `reference` must be a list of texts, one a turn")
    language = str(row.get("language") or ("zh" if CJK.search(turns[0]) else "en"))
    keys = [f"{prefix}{name}.{number}" for number in range(1, len(turns) + 1)]
    return [
        Case(
            key,
            prompt=turn,
            query=turn,
            reference=references[number] if number < len(references) else "",
            dataset=f"turn {number + 1}",
            language=language,
            rubric="dialogue",
            document=f"{prefix}{name}",
            category=str(row.get("category") or ""),
            follows=keys[number - 1] if number else None,
        )
        for number, (key, turn) in enumerate(zip(keys, turns, strict=True))
    ]


def _written_references(path: Path) -> dict[str, Sequence[str]]:
    """Reference answers by question: MT-Bench's answer files."""
    found: dict[str, Sequence[str]] = {}
    for number, row in enumerate(read_rows(path), start=1):
        try:
            found[str(row["question_id"])] = [str(turn) for turn in row["choices"][0]["turns"]]
        except (KeyError, IndexError, TypeError):
            raise DataError(f"{path}: row {number} has no `question_id` and `choices[0].turns`") from None
    return found
