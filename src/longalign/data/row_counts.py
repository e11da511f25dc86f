"""What became of the rows of a file: read = used + left out, each reason counted.

A reader counts into a `Counter`: `READ` once a row, and a reason (`LEFT_OUT`) for each row that it does not give. Every
other key says what was cut from a row, be it left with anything or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from longalign.base.progress import say

READ = "rows read"
NO_ANSWER = "no answer in the conversation"
EMPTY_FIRST = "the first answer is empty"
NO_QUESTION = "no question in the conversation"
NOT_TRAINED = "every answer is flagged as not trained"
WEIGHED_OUT = "the row's weight is 0"
LEFT_OUT = (NO_ANSWER, EMPTY_FIRST, NO_QUESTION, NOT_TRAINED, WEIGHED_OUT)
CUT_AT_EMPTY = "cut at an empty assistant turn"
CUT_AT_SECOND = "cut at a second answer in a row"
CUT_BEFORE = "cut before the first question"
CUT_BEHIND = "cut behind the last answer"


@dataclass(frozen=True)
class FileRows:
    """Rows of one file. `used + sum(left_out) == read`; `cut`: what was cut from rows, by reason."""

    read: int
    used: int
    left_out: Mapping[str, int]
    cut: Mapping[str, int]

    @classmethod
    def of(cls, counted: Counter[str]) -> FileRows:
        left_out = {reason: counted[reason] for reason in LEFT_OUT if counted[reason]}
        cut = {reason: count for reason, count in counted.items() if reason != READ and reason not in LEFT_OUT}
        return cls(counted[READ], counted[READ] - sum(left_out.values()), left_out, cut)

    @property
    def words(self) -> str:
        """`5 rows read, 2 used, 3 left out (3 no answer in the conversation)`."""
        out = f", {sum(self.left_out.values()):,} left out ({_listed(self.left_out)})" if self.left_out else ""
        rows = "row" if self.read == 1 else "rows"
        return f"{self.read:,} {rows} read, {self.used:,} used{out}{f', {_listed(self.cut)}' if self.cut else ''}"


def said(counted: Mapping[str, Counter[str]]) -> dict[str, FileRows]:
    """The counts of each file, printed, a line each."""
    files = {name: FileRows.of(counts) for name, counts in counted.items()}
    for name, rows in files.items():
        say(f"{name}: {rows.words}")
    return files


def noted(files: Mapping[str, FileRows]) -> dict[str, Any]:
    """What a token store writes down of them."""
    return {"counts": totals(files.values()), "read": {name: asdict(rows) for name, rows in files.items()}}


def totals(files: Iterable[FileRows]) -> Counter[str]:
    """Over all files, for a store's `counts`."""
    counts: Counter[str] = Counter()
    for rows in files:
        counts["rows_read"] += rows.read
        counts.update({f"left_out: {reason}": count for reason, count in rows.left_out.items()})
        counts.update(rows.cut)
    return counts


def reasons(files: Iterable[FileRows]) -> str:
    """Why rows were left out, over all files; empty when none was."""
    left_out: Counter[str] = Counter()
    for rows in files:
        left_out.update(rows.left_out)
    return _listed(left_out)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
