"""Rows of tables and data sets are documents; their text's field is found, named, or the error lists the fields."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from longalign.data.documents import Reading, Skipped
from longalign.data.source import Source, documents_fingerprint, read_documents
from longalign.errors import DataError

ROWS = [{"prose": "A harbour,\nfor boats.", "title": "One"}, {"prose": None, "title": "Two"}, {"prose": "A lamp"}]
NAMED = Reading(text_field="prose")


def texts(name: str | Path, how: Reading | None = NAMED) -> list[tuple[str, str, str]]:
    """(text, title, origin) and what was skipped."""
    skipped: list[Skipped] = []
    found = [(d.text, d.title, Path(d.origin).name) for d in read_documents([name], skipped=skipped, how=how)]
    return found + [("", left.reason, Path(left.origin).name) for left in skipped]


def test_csv_and_tsv_give_a_document_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prose,title\n"A harbour,\nfor boats.",One\nx\n,Empty\nA lamp,Two\n')
    (tmp_path / "b.tsv").write_text("title\ttext\nThree\tA boat, a lamp\n")
    (tmp_path / "c.csv").write_text("x,y\n1,2\n")
    assert texts(tmp_path) == [
        ("A harbour,\nfor boats.", "One", "a.csv:2"),
        ("A lamp", "Two", "a.csv:6"),
        ("", "1 cells for 2 columns; quote commas in them", "a.csv:4"),
        ("", "no text", "a.csv:5"),
        ("", "no text field `prose` (has `title`, `text`)", "b.tsv"),
        ("", "no text field `prose` (has `x`, `y`)", "c.csv"),
    ]
    assert texts(tmp_path / "b.tsv", None) == [("A boat, a lamp", "Three", "b.tsv:2")]
    with pytest.raises(DataError, match=r"c\.csv: no text fields \(has `x`, `y`\); name the one .* with --text_field"):
        texts(tmp_path / "c.csv", None)


def test_data_sets_saved_or_of_the_hub_are_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(str(tmp_path / "saved"))
    asked = []

    def load(*place: Any, **how: Any) -> Any:
        asked.append((*place, how["revision"], how["split"]))
        return data

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    for name in ("saved", "hub:org/pages/all@v1:test", "hf:org/pages/all@v1:test"):
        found = texts(name)
        assert [row[:2] for row in found[:2]] == [("A harbour,\nfor boats.", "One"), ("A lamp", "A lamp")]
        assert found[2][1].startswith("field `prose` is")
        with pytest.raises(DataError, match=r"no text fields \(has `prose`, `title`\)"):
            texts(name, None)
    assert set(asked) == {("org/pages", "all", "v1", "test")}
    assert next(Source("hf:org/pages").documents(how=NAMED)).source == "pages"
    assert documents_fingerprint(["hf:org/pages"]) == documents_fingerprint(["hub:org/pages"])
    assert documents_fingerprint(["hf:org/pages"]) != documents_fingerprint(["hf:org/pages:test"])


def test_the_field_inside_another_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"page": {"main": "A harbour"}, "text": "not this"}))
    assert texts(tmp_path / "a.jsonl", Reading(text_field="page.main"))[0][0] == "A harbour"
