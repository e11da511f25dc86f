"""No row vanishes: what is read of a file is used or left out, each reason is counted, printed and in the store."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.config import PlanSettings
from longalign.data.row_counts import FileRows
from longalign.data.show import show_rows
from longalign.data.source import read_rows
from longalign.data.store import TokenStore
from longalign.data.to_tokens import DocumentEncoder, MixedEncoder, RowEncoder, tokenize_rows, tokenize_texts
from longalign.errors import DataError
from longalign.plan.lengths import read_lengths

TINY = "builtin:tiny-base"
NO_ANSWER, EMPTY_FIRST = "no answer in the conversation", "the first answer is empty"


def chat(*turns: str, **more: Any) -> dict[str, Any]:
    """Turns as `user: text`."""
    split = (turn.split(": ", 1) for turn in turns)
    return {"messages": [{"role": role, "content": text} for role, text in split], **more}


FIVE = [
    chat("user: hi", "assistant: ho"),
    chat("system: only this"),
    chat("user: unanswered"),
    chat("user: q", "assistant: ", "user: r", "assistant: lost with what it refers to"),
    chat("user: q", "assistant: a", "user: r", "assistant:  ", "user: s", "assistant: lost too"),
]
"""Two of them are used, one of these cut."""


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_store_says_what_became_of_every_row_of_every_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(write(tmp_path / "five.jsonl", FIVE)), str(write(tmp_path / "one.jsonl", FIVE[:1]))]
    store = tokenize_rows(tmp_path / "tokens", dict.fromkeys(files), RowEncoder(TINY, 256), seed=0, stamp="s")
    assert store.counts == {
        "rows_read": 6,
        f"left_out: {NO_ANSWER}": 2,
        f"left_out: {EMPTY_FIRST}": 1,
        "cut at an empty assistant turn": 1,
        "rows": 3,
    }
    left_out, cut = {NO_ANSWER: 2, EMPTY_FIRST: 1}, {"cut at an empty assistant turn": 1}
    assert store.description["read"] == {
        files[0]: {"read": 5, "used": 2, "left_out": left_out, "cut": cut},
        files[1]: {"read": 1, "used": 1, "left_out": {}, "cut": {}},
    }
    said = capsys.readouterr().err
    assert (
        f"{files[0]}: 5 rows read, 2 used, 3 left out (2 {NO_ANSWER}, 1 {EMPTY_FIRST}), "
        "1 cut at an empty assistant turn\n"
        f"{files[1]}: 1 row read, 1 used\n" in said
    )
    assert store.names([0, 1, 2]) == ["five.jsonl:1", "five.jsonl:5", "one.jsonl:1"]
    folders = (tmp_path / "mixed", tmp_path / "held")
    encoder = MixedEncoder(DocumentEncoder(TINY, 256), RowEncoder(TINY, 256))
    tokenize_texts(["builtin:chinese"], {files[0]: 1}, folders, encoder, stamp="s", seed=0)
    mixed = TokenStore.open(folders[0])
    assert mixed.description["read"][files[0]] == {"read": 5, "used": 2, "left_out": left_out, "cut": cut}
    assert (mixed.counts["rows_read"], mixed.counts[f"left_out: {NO_ANSWER}"]) == (5, 2)


def test_nothing_to_train_on_names_the_reasons(tmp_path: Path) -> None:
    file = str(write(tmp_path / "rows.jsonl", FIVE[1:4]))
    with pytest.raises(
        DataError, match=rf"no rows to train on: none in {file} \(left out: 2 {NO_ANSWER}, 1 {EMPTY_FIRST}\)"
    ):
        tokenize_rows(tmp_path / "tokens", {file: None}, RowEncoder(TINY, 256), seed=0, stamp="s")


def test_plans_count_rows_that_are_left_out_but_not_those_that_are_cut(tmp_path: Path) -> None:
    rows = [row | {"length_tokens": 9} for row in FIVE]
    file = str(write(tmp_path / "rows.jsonl", rows))
    for tokenizer in (TINY, None):
        planned = read_lengths(PlanSettings(data=(file,), tokenizer=tokenizer))
        assert len(planned.lengths_N) == 2
        wanted = {"dropped": 3, "rows_read": 5, f"left_out: {NO_ANSWER}": 2, f"left_out: {EMPTY_FIRST}": 1}
        wanted |= {"cut at an empty assistant turn": 1}
        assert dict(planned.counts) == wanted


def test_fields_that_nothing_uses_are_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = {"task": "summary", "evidence": [], "support": [1.0], "prompt": "hash", "length_tokens": 3, "origin": "x"}
    used = {"tools": None, "chat_template_kwargs": {"thinking": 1}, "system": "s"}
    rows = [
        chat("user: q", "assistant: a", **more) for more in (ours | used, {"null": None}, {"b": 1}, {"a": 0, "b": 2})
    ]
    file = write(tmp_path / "rows.jsonl", rows)
    show_rows(file, rows=9)
    assert capsys.readouterr().err == f"{file}: fields not used: b, a (first at line 3)\n"
    store = tokenize_rows(tmp_path / "t", {str(file): None}, RowEncoder(TINY, 256), seed=0, stamp="s")
    assert capsys.readouterr().err.count("fields not used") == 1
    assert store.counts["chat_template_kwargs.thinking without effect"] == 1


def test_show_tells_what_is_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    off = {"role": "assistant", "content": "bad", "weight": 0}
    row = chat("user: q", "assistant: a")
    row["messages"] = [row["messages"][0], off, *row["messages"]]
    show_rows(write(tmp_path / "rows.jsonl", [row, *FIVE[1:]]), rows=1)
    said = capsys.readouterr().out
    assert "[assistant, not trained] bad\n" in said
    assert "rows.jsonl: 1 row read, 1 used\n" in said


TURNS = st.lists(
    st.tuples(st.sampled_from(["human", "gpt", "system", "observation"]), st.sampled_from(["", " ", "x", "y"])),
    max_size=6,
)


@settings(max_examples=30)
@given(st.lists(st.tuples(TURNS, st.sampled_from([None, 0, 1])), max_size=8))
def test_rows_read_are_rows_used_and_rows_left_out(chats: list[tuple[list[tuple[str, str]], int | None]]) -> None:
    rows = [
        {"conversations": [{"from": who, "value": what, "loss": flag if who == "gpt" else None} for who, what in turns]}
        for turns, flag in chats
    ]
    left_out: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        used = list(read_rows(write(Path(folder) / "rows.jsonl", rows), left_out=left_out))
    counted = FileRows.of(left_out)
    assert counted.read == len(rows)
    assert counted.used == len(used) == counted.read - sum(counted.left_out.values())
    whole = sum(len(row["conversations"]) for row in rows)
    if whole == sum(len(row["messages"]) for row in used) and len(used) == len(rows):
        assert not counted.cut
    assert all(any(m.get("train", True) for m in row["messages"] if m["role"] == "assistant") for row in used)
