"""The same rows in any kind of file are the same rows; what cannot be read says where and what to do."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.base.sources import Named
from longalign.data.row_files import _items, raw_rows
from longalign.data.source import read_rows
from longalign.errors import DataError

CALL = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
OTHER_CALL = {"type": "function", "id": "c2", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}}
ROWS: list[dict[str, Any]] = [
    {"id": "1", "messages": [{"role": "user", "content": 'Why,\n"so"?'}, {"role": "assistant", "content": "雪 – so."}]},
    {
        "id": "2",
        "messages": [
            {"role": "user", "content": "Weather? And 1 + 2?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL, OTHER_CALL]},
            {"role": "tool", "content": "18", "tool_call_id": "c1"},
            {"role": "tool", "content": "3", "tool_call_id": "c2"},
            {"role": "assistant", "content": "18 degrees; 3.", "train": True},
        ],
        "tools": [TOOL],
        "chat_template_kwargs": {"enable_thinking": False},
    },
    {
        "id": "3",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Ho", "train": False},
            {"role": "user", "content": "Again"},
            {"role": "assistant", "content": "Ho!"},
        ],
    },
]


def lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def save_csv(path: Path) -> None:
    """Values that are no text as JSON."""
    columns = list(dict.fromkeys(name for row in ROWS for name in row))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(columns)
        cells = [[row.get(name, "") for name in columns] for row in ROWS]
        writer.writerows([cell if isinstance(cell, str) else json.dumps(cell) for cell in line] for line in cells)


def save_zst(path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(lines(ROWS).encode())


def filled() -> list[dict[str, Any]]:
    """Every row with every column, as tables have them."""
    columns = dict.fromkeys(name for row in ROWS for name in row)
    return [{name: row.get(name) for name in columns} for row in ROWS]


def save_folder(path: Path) -> None:
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(filled()).save_to_disk(str(path))


def save_splits(path: Path) -> None:
    datasets.disable_progress_bars()
    data = datasets.Dataset.from_list(filled())
    datasets.DatasetDict({"test": data.select([0]), "train": data}).save_to_disk(str(path))


SAVED: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_text(lines(ROWS), encoding="utf-8"),
    "bom.jsonl": lambda path: path.write_text("\ufeff" + lines(ROWS).replace("\n", "\r\n"), encoding="utf-8"),
    "a.json": lambda path: path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8"),
    "lines.json": lambda path: path.write_text("\ufeff\n" + lines(ROWS), encoding="utf-8"),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(lines(ROWS).encode())),
    "a.json.xz": lambda path: path.write_bytes(lzma.compress(json.dumps(ROWS).encode())),
    "a.jsonl.bz2": lambda path: path.write_bytes(bz2.compress(lines(ROWS).encode())),
    "a.jsonl.zst": save_zst,
    "a.csv": save_csv,
    "a.tsv": save_csv,
    "a.parquet": lambda path: pq.write_table(pa.Table.from_pylist(filled()), path),
    "parquet-without-suffix": lambda path: pq.write_table(pa.Table.from_pylist(filled()), path),
    "saved": save_folder,
    "splits": save_splits,
}


@pytest.mark.parametrize("name", SAVED)
def test_every_kind_of_file_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    SAVED[name](tmp_path / name)
    left_out: Counter[str] = Counter()
    read = list(read_rows(tmp_path / name, left_out=left_out))
    for row, wanted in zip(read, ROWS, strict=True):
        assert row == {**wanted, "source": name.split(".")[0]}
    assert left_out == {"rows read": 3}


def test_columns_of_arrow_lists_and_json_in_strings_are_turns(tmp_path: Path) -> None:
    """What older `datasets` and CSV make of a list of turns."""
    turns = ROWS[0]["messages"]
    columns = {"role": [turn["role"] for turn in turns], "content": [turn["content"] for turn in turns]}
    (tmp_path / "rows.jsonl").write_text(lines([{"messages": columns}, {"messages": json.dumps(turns)}]))
    assert [row["messages"] for row in read_rows(tmp_path / "rows.jsonl")] == [turns, turns]


@settings(max_examples=30)
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=6,
    ),
    st.sampled_from([None, 0, 3]),
    st.integers(1, 7),
)
def test_a_json_list_is_read_piece_by_piece_as_it_is_at_once(values: list[Any], indent: int | None, size: int) -> None:
    class Pieces:
        """A stream that gives a few characters at a time, whatever is asked for."""

        def __init__(self, text: str) -> None:
            self.text, self.at = text, 0

        def read(self, _: int = -1) -> str:
            self.at += size
            return self.text[self.at - size : self.at]

    text = json.dumps(values, indent=indent, ensure_ascii=False)
    assert list(_items(Pieces(text[1:]), "", Path("f"))) == values  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.json", "a.parquet", "saved"])
def test_memory_does_not_grow_with_the_file(name: str, tmp_path: Path) -> None:
    """Bytes of Python's: those of one batch or piece, not of the file."""
    rows = [{"prompt": f"{n} " + "x" * 20_000, "completion": "y"} for n in range(800)]
    path = tmp_path / name
    if name == "a.json":
        path.write_text(json.dumps(rows))
    elif name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        datasets.disable_progress_bars()
        datasets.Dataset.from_list(rows).save_to_disk(str(path))
    next(raw_rows(path))  # loads what is loaded once
    tracemalloc.start()
    try:
        assert sum(1 for _ in raw_rows(path)) == len(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000 < len(rows) * 20_000


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", '[{"prompt": "a", "completion": "b"}, {"prompt": ]', ["a.json: row 2: not JSON"]),
        ("a.json", '[{"prompt": "a", "completion": "b"}', ["a.json: row 2: not JSON"]),
        ("a.json", '[{"prompt": "a", "completion": "b"} {"prompt": "a"}]', ["row 2", "comma"]),
        ("a.json", '{"prompt": "a"\n', ["a.json:1: not JSON"]),
        ("a.csv", "prompt,completion\na,b\nc,d,e\n", ["a.csv:3: 3 cells for 2 columns"]),
        ("a.csv", "prompt,prompt\na,b\n", ["a.csv:1", "same name"]),
        ("a.csv", 'prompt,completion\na,b\n"c,d\n', ["a.csv:3: not CSV"]),
        ("a.csv", "messages\n\"[{'role': 'user'}]\"\n", ["a.csv:2", "`messages` is not JSON", "JSON library"]),
        ("a.parquet", "PAR1 and no more", ["a.parquet: not a whole Parquet file"]),
        ("a.jsonl.gz", "no gzip", ["a.jsonl.gz: cannot be read"]),
        ("a.jsonl", "[" * 100_000, ["a.jsonl:1: not JSON"]),
        ("saved/state.json", "{}", ["not a folder saved by `datasets`"]),
        ("saved/a.txt", "", ["a folder, not a row file", ".parquet"]),
        ("saved/dataset_dict.json", '{"splits": ["a", "b"]}', ["has the splits a, b", "saved/a"]),
    ],
)
def test_broken_files_say_where_and_what(name: str, text: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(DataError) as error:
        list(read_rows(tmp_path / name.split("/")[0]))
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train_rows.jsonl").write_text("")
    for name in ("data/train_row.jsonl", "dat/train_rows.jsonl"):
        with pytest.raises(DataError, match=r"no such file or folder \(did you mean `.*/data/train_rows.jsonl`\?\)"):
            list(read_rows(tmp_path / name))
    with pytest.raises(
        DataError, match=r"HuggingFaceH4/none: no such .* \(a data set of the hub is hub:HuggingFaceH4/n"
    ):
        list(read_rows("HuggingFaceH4/none"))


def test_a_data_set_of_the_hub_is_read_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The download is the library's own; here it hands over what it would have downloaded."""
    asked = []

    def load(*place: Any, **how: Any) -> Any:
        asked.append((*place, how["revision"], how["split"]))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    name = "hub:org/some-rows/all@v1.0:test"
    read = list(read_rows(name))
    assert [row["messages"] for row in read] == [row["messages"] for row in ROWS]
    assert {row["source"] for row in read} == {"some-rows"}
    assert asked[0] == ("org/some-rows", "all", "v1.0", "test")
    assert Named(name).here
    assert Named(name).fingerprint() == Named(name).fingerprint() != Named("hub:org/some-rows").fingerprint()
    (tmp_path / "org" / "some-rows").mkdir(parents=True)
    with pytest.raises(DataError, match="a folder org/some-rows is here"):
        list(read_rows(name))


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach it\nTraceback ...")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        DataError, match=r"^hub:org/rows: cannot be read from the hub \(ConnectionError: Couldn't reach"
    ):
        list(read_rows("hub:org/rows"))
    with pytest.raises(DataError, match="hub:rows: no data set's name; write hub:ORG/NAME"):
        list(read_rows("hub:rows"))
