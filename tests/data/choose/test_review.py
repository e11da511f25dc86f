"""A review: what a person decides happens to that row and no other, and no cell is a formula."""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from longalign.data.choose.given import content_key
from longalign.data.choose.review import export_review
from longalign.data.choose.review_apply import import_review
from longalign.data.choose.review_sheet import COLUMNS, Line, read_sheet, write_sheet
from longalign.errors import DataError, RunError
from tests.data.choose.rows import read, row, write

TEXTS = st.text(st.sampled_from("=+-@'\t\r\n\",; aé中"), max_size=12)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4), st.sampled_from([".csv", ".jsonl"]))
@hypothesis_settings(max_examples=50)
def test_a_sheet_comes_back_exactly_and_begins_no_cell_as_a_formula(
    texts: list[tuple[str, str, str]], suffix: str
) -> None:
    lines = [
        Line(id=f"{n}", hash="h", turn=n, why="w", question=question, answer=answer, evidence="", note=note)
        for n, (question, answer, note) in enumerate(texts)
    ]
    with TemporaryDirectory() as folder:
        sheet = Path(folder, f"sheet{suffix}")
        write_sheet(sheet, lines)
        assert [line for _, line in read_sheet(sheet)] == lines
        if suffix == ".csv":
            with sheet.open(encoding="utf-8-sig", newline="") as stream:
                assert not any(
                    cell.startswith(("=", "+", "-", "@", "\t", "\r")) for each in csv.reader(stream) for cell in each
                )


def decide(sheet: Path, decisions: dict[str, dict[str, str]]) -> None:
    """Fill in a .csv as a person does."""
    with sheet.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows([each | decisions.get(each["id"], {}) for each in rows])


def test_decisions_are_applied_with_their_provenance(tmp_path: Path) -> None:
    rows = [row(n, support=[0.3 + n / 100], evidence=[], length_tokens=40) for n in range(8)]
    file = write(tmp_path / "rows.jsonl", rows)
    sheet, out = tmp_path / "review.csv", tmp_path / "reviewed.jsonl"
    assert export_review(str(file), sheet, n=4)["rows"] == 4
    assert [line.id for _, line in read_sheet(sheet)] == ["row-0", "row-1", "row-2", "row-3"]  # nearest to 0.3
    edit = {"decision": "Edit", "edited_answer": "It has 5 chairs, says the ledger.", "by": "M. K."}
    decide(sheet, {"row-0": {"decision": "drop"}, "row-1": {"decision": "keep", "note": "fine"}, "row-2": edit})
    found = import_review(str(file), sheet, out)
    assert found["decisions"] == {"keep": 1, "drop": 1, "edit": 1, "undecided": 1, "not in the sheet": 4}
    written = {each["id"]: each for each in read(out)}
    assert list(written) == [f"row-{n}" for n in range(1, 8)]
    assert written["row-1"]["review"] == {"decision": "keep", "hash": content_key(rows[1]), "note": "fine"}
    edited = written["row-2"]
    assert edited["messages"][1]["content"] == "It has 5 chairs, says the ledger."
    assert edited["messages"][0] == rows[2]["messages"][0]
    assert edited["review"]["hash"] == content_key(rows[2])
    assert edited["support"] != rows[2]["support"]
    assert edited["evidence"][0]["text"] == "The ledger of house 2 lists 5 chairs."
    assert "length_tokens" not in edited
    assert [written[f"row-{n}"] for n in range(3, 8)] == rows[3:]
    with pytest.raises(RunError, match="exists already"):
        export_review(str(file), sheet)


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"decision": "maybe"}, "decision `maybe`"),
        ({"decision": "edit"}, "without `edited_question`"),
        ({"decision": "keep", "edited_answer": "Other."}, "write `edit`"),
        ({"id": "row-77"}, "no row row-77"),
        ({"hash": "0"}, "changed since it was exported"),
        ({"id": "row-0", "hash": "row-0"}, "second line for turn 0"),
    ],
)
def test_an_unclear_decision_stops_before_anything_is_written(
    decision: dict[str, str], words: str, tmp_path: Path
) -> None:
    rows = [row(n, support=[0.3]) for n in range(3)]
    file = write(tmp_path / "rows.jsonl", rows)
    sheet = tmp_path / "review.csv"
    export_review(str(file), sheet)
    if decision.get("hash") == "row-0":
        decision["hash"] = content_key(rows[0])
    decide(sheet, {"row-1": decision})
    with pytest.raises(DataError, match=words):
        import_review(str(file), sheet, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
