"""Row files in other people's forms become messages; what cannot be read says where and why."""

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.data.rows import normalise
from longalign.data.source import read_rows
from longalign.errors import DataError

TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
TEXT = st.text(max_size=30)
FULL = TEXT.filter(lambda text: bool(text.strip()))


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS, "length": 12345},
        {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}], "id": "a"},
        {"instruction": "Why?", "output": "Because.", "input": ""},
        {"instruction": "Why?", "output": "Because."},
        {"prompt": "Why?", "completion": "Because."},
        {"prompt": "Why?", "response": "Because."},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
    ],
)
def test_every_known_form_gives_the_same_messages(row: dict[str, Any], tmp_path: Path) -> None:
    (read,) = read_rows(write(tmp_path / "rows.jsonl", row))
    assert read["messages"] == TURNS
    assert read["source"] == "rows"
    assert isinstance(read["id"], str)
    assert read.get("length") == row.get("length")


def test_instruction_and_input_are_one_question() -> None:
    row = normalise({"instruction": "Translate.", "input": "Hallo", "output": "Hello"}, "f:1")
    assert row is not None
    assert row["messages"][0]["content"] == "Translate.\n\nHallo"


def test_a_chat_is_cut_where_an_answer_is_empty_and_left_out_when_nothing_is_left() -> None:
    left_out: Counter[str] = Counter()
    chat = [{"from": speaker, "value": value} for speaker, value in (("human", "a"), ("gpt", "b"), ("human", "c"))]
    row = normalise({"conversations": [*chat, {"from": "gpt", "value": " "}]}, "f:1", left_out)
    assert row is not None
    assert [message["content"] for message in row["messages"]] == ["a", "b"]
    assert normalise({"conversations": [chat[0], {"from": "gpt", "value": ""}]}, "f:2", left_out) is None
    assert normalise({"conversations": []}, "f:3", left_out) is None
    assert left_out == {
        "cut at an empty assistant turn": 1,
        "the first answer is empty": 1,
        "no answer in the conversation": 1,
    }


def test_collected_chats_may_open_with_the_assistant_or_repeat_a_speaker() -> None:
    chat = [("gpt", "hi"), ("human", "a"), ("human", "b"), ("gpt", "c"), ("gpt", "d"), ("human", "e"), ("gpt", "f")]
    row = normalise({"conversations": [{"from": who, "value": what} for who, what in chat]}, "f:1")
    assert row is not None
    assert [(m["role"], m["content"]) for m in row["messages"]] == [("user", "a\n\nb"), ("assistant", "c")]


def test_tool_calls_and_other_fields_stay() -> None:
    function = {"name": "add", "arguments": {"numbers": [2, 3]}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    row = normalise({"messages": [TURNS[0], call, {"role": "tool", "content": "5"}, TURNS[1]], "tools": [tool]}, "f:1")
    assert row is not None
    assert row["messages"][1] == call
    assert row["tools"] == [tool]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "no chat"}, ["no conversation here", "`text`", "`messages`"]),
        ({"messages": "hello"}, ["`messages` is a str"]),
        ({"messages": []}, ["`messages` is empty"]),
        ({"messages": [{"role": "bot", "content": "x"}]}, ["`messages[0].role`", "'bot'"]),
        ({"messages": [{"role": "user", "content": 3}]}, ["`messages[0].content` is a int"]),
        ({"messages": [TURNS[0], {"role": "assistant"}]}, ["`messages[1].content` is missing"]),
        ({"messages": TURNS[1:]}, ["no user turn"]),
        ({"conversations": [{"from": "martian", "value": "x"}]}, ["`conversations[0].from`", "'martian'"]),
        ({"conversations": [{"from": "human"}]}, ["`conversations[0].value` is missing"]),
        ({"instruction": None, "output": "x"}, ["`instruction` is missing"]),
        ([1, 2], ["a row is a JSON object"]),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(row: Any, words: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"messages": TURNS}, row)
    with pytest.raises(DataError) as error:
        list(read_rows(path))
    assert f"{path}:2: " in str(error.value)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_broken_lines_missing_files_and_wrong_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": TURNS}) + "\n{broken\n")
    with pytest.raises(DataError, match=r"rows.jsonl:2: not JSON"):
        list(read_rows(path))
    with pytest.raises(DataError, match="no such file"):
        list(read_rows(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="folder"):
        list(read_rows(tmp_path))
    path.write_bytes(b'{"messages": "\xff"}\n')
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_rows(path))


def test_json_lists_and_gzip_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"messages": TURNS}, {"messages": TURNS}], indent=2))
    assert len(list(read_rows(tmp_path / "a.json"))) == 2
    lines = [json.dumps({"prompt": "Why?\u2028", "completion": answer}, ensure_ascii=False) for answer in "ab"]
    (tmp_path / "lines.json").write_text("\n".join(lines), encoding="utf-8")  # JSON lines under that name
    assert [row["messages"][1]["content"] for row in read_rows(tmp_path / "lines.json")] == ["a", "b"]
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as stream:
        stream.write(json.dumps({"messages": TURNS}) + "\n")
    (row,) = read_rows(tmp_path / "b.jsonl.gz")
    assert row["source"] == "b"


@given(st.lists(st.tuples(FULL, FULL), min_size=1, max_size=4))
def test_well_formed_chats_pass_unchanged_in_every_form(pairs: list[tuple[str, str]]) -> None:
    messages = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    chat = [{"from": "human" if m["role"] == "user" else "gpt", "value": m["content"]} for m in messages]
    for row in ({"messages": messages}, {"conversations": chat}):
        read = normalise(row, "f:1")
        assert read is not None
        assert read["messages"] == messages


@given(st.lists(st.tuples(st.sampled_from(["human", "gpt", "system"]), TEXT), max_size=7))
def test_any_chat_gives_alternating_turns_with_answers_or_nothing(chat: list[tuple[str, str]]) -> None:
    row = normalise({"conversations": [{"from": who, "value": what} for who, what in chat]}, "f:1")
    if row is None:
        return
    roles = [message["role"] for message in row["messages"]]
    assert roles[-1] == "assistant"
    assert "user" in roles
    assert all(message["content"].strip() for message in row["messages"] if message["role"] == "assistant")
    assert all(a != b or a != "assistant" for a, b in pairwise(roles))
