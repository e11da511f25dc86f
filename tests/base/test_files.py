"""Files are written whole or not at all; a fingerprint follows values, never the names of classes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import append_jsonl, fingerprint, read_jsonl, write_jsonl

VALUES = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.dictionaries(st.text("ab", max_size=2), VALUES | st.lists(VALUES), max_size=3)))
def test_rows_come_back_as_they_were_written_whole_or_one_by_one(rows: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        whole, appended = Path(place) / "whole.jsonl", Path(place) / "appended.jsonl"
        write_jsonl(whole, iter(rows))
        for row in rows:
            append_jsonl(appended, row)
        assert read_jsonl(whole) == read_jsonl(appended) == rows
        assert not rows or whole.read_bytes() == appended.read_bytes()


def test_a_file_of_rows_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, int]]:
        yield {"row": 1}
        raise KeyboardInterrupt

    write_jsonl(tmp_path / "rows.jsonl", [{"row": 0}])
    with pytest.raises(KeyboardInterrupt):
        write_jsonl(tmp_path / "rows.jsonl", broken())
    assert read_jsonl(tmp_path / "rows.jsonl") == [{"row": 0}]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_fingerprint_follows_values_and_not_their_order_in_a_mapping() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": (2,), "a": 1}) != fingerprint({"a": 1, "b": [3]})
    assert fingerprint(Path("a"), np.int64(3)) == fingerprint("a", "3")


def test_a_fingerprint_never_depends_on_what_a_class_is_called() -> None:
    @dataclass(frozen=True)
    class Encoder:
        window: int

    with pytest.raises(TypeError, match="Encoder in a fingerprint: say which of its values decide the content"):
        fingerprint("store", Encoder(4096))
