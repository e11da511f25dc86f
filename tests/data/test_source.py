"""A name means the same wherever it is used, and what is added to a table of readers is read everywhere."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from longalign.base.files import fingerprint, fingerprint_path
from longalign.base.sources import BUNDLED, Named
from longalign.bundled.corpora import corpus
from longalign.data.readers import READERS, RawDocument, text_of
from longalign.data.row_formats import ROW_FORMATS, Messages, Row, RowFormat
from longalign.data.source import Source, documents_fingerprint, read_documents, read_rows
from longalign.errors import DataError


@pytest.mark.parametrize(
    ("name", "bundled", "here"),
    [
        ("builtin:python-docs", True, True),
        ("builtin:chat-0-300", True, True),
        ("builtin:tiny-base", True, True),
        ("some/hub-id", False, False),
        ("no-such-file.jsonl", False, False),
        (str(Path(__file__)), False, True),
        (str(Path(__file__).parent), False, True),
    ],
)
def test_a_name_is_bundled_or_here_or_elsewhere(name: str, bundled: bool, here: bool) -> None:
    assert (Named(name).bundled, Named(name).here) == (bundled, here)


def test_a_fingerprint_is_of_content_where_there_is_some_to_look_into(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    assert Named(str(tmp_path)).fingerprint() == fingerprint_path(tmp_path)
    assert Named("builtin:tiny-base").fingerprint() == fingerprint_path(BUNDLED / "tiny-base")
    assert [Named(name).fingerprint() for name in ("some/hub-id", "builtin:chat-0-300")] == [
        "named:some/hub-id",
        "named:builtin:chat-0-300",
    ]


def test_fingerprints_of_documents_are_those_of_earlier_versions(tmp_path: Path) -> None:
    """The literals are what version 0.1 gave for these files."""
    (tmp_path / "books").mkdir()
    for number in range(12):
        (tmp_path / "books" / f"{number:02}.txt").write_text(f"Document {number}. " * (10 + number))
    folder, file = str(tmp_path / "books"), str(tmp_path / "books" / "03.txt")
    assert documents_fingerprint([folder]) == "c13ce53b11428d08944a41c3ae09f591c4519b472e161d581533f0b11ba43ce8"
    assert documents_fingerprint([file]) == "ed0724881c33ca6ddad42da93fcd7c2b7d4119c1e6fea394aa518d4d5d14bc70"
    pairs = list(corpus("builtin:chinese"))
    both = fingerprint([fingerprint(pairs), fingerprint_path(folder)])
    assert documents_fingerprint(["builtin:chinese", folder]) == both
    with pytest.raises(DataError, match="no-such-place: no such file or folder"):
        documents_fingerprint(["no-such-place"])


def test_texts_to_continue_pretraining_on_are_the_bundled_ones_byte_for_byte() -> None:
    assert [(text.title, text.text) for text in Source("builtin:chinese").texts()] == list(corpus("builtin:chinese"))
    assert {text.source for text in Source("builtin:chinese").texts()} == {"builtin:chinese"}


def test_documents_and_rows_come_by_the_same_names(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "Why?", "completion": "Because."}) + "\n")
    (row,) = Source(str(tmp_path / "rows.jsonl")).rows()
    assert row == next(read_rows(tmp_path / "rows.jsonl"))
    (tmp_path / "a.txt").write_text("one")
    assert list(Source(str(tmp_path / "a.txt")).documents()) == list(read_documents([tmp_path / "a.txt"]))
    assert [row["task"] for row in Source("builtin:chat-0-2").rows()] == ["retrieve", "copy"]


def read_log(path: Path) -> Iterator[RawDocument]:
    """Text after a time stamp: what a document source to add looks like (docs/guide/extend-it.md)."""
    for number, line in enumerate(text_of(path).splitlines(), 1):
        yield RawDocument(line.partition(" ")[2], source="logs", line=number)


def test_a_kind_of_file_is_added_by_one_function_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("10:00 started\n10:01 stopped\n")
    with pytest.raises(DataError, match=r"unknown kind of file `\.log`"):
        list(read_documents([tmp_path]))
    READERS[".log"] = read_log
    try:
        found = list(read_documents([tmp_path]))
    finally:
        del READERS[".log"]
    assert [(document.text, document.source) for document in found] == [("started", "logs"), ("stopped", "logs")]
    assert found[1].origin == f"{tmp_path / 'app.log'}:2"


def read_qa(row: Row, where: str) -> Messages:
    """`q` and `a`: what a row format to add looks like (docs/guide/extend-it.md)."""
    return [{"role": "user", "content": row.pop("q")}, {"role": "assistant", "content": row.pop("a")}]


def test_a_form_of_rows_is_added_by_one_function_and_one_line(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"q": "Why?", "a": "Because.", "topic": "x"}) + "\n")
    with pytest.raises(DataError, match=r"no conversation here \(found `q`, `a`, `topic`\); a row needs `messages`, "):
        list(read_rows(rows))
    ROW_FORMATS["qa"] = RowFormat(("q", "a"), read_qa)
    try:
        (row,) = read_rows(rows)
    finally:
        del ROW_FORMATS["qa"]
    assert [message["content"] for message in row["messages"]] == ["Why?", "Because."]
    assert (row["topic"], row["source"]) == ("x", "rows")
