"""What people write beside and inside of the turns is used, or it is an error that names the field: never dropped."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.data.row_counts import FileRows
from longalign.data.row_turns import read_turns
from longalign.data.rows import normalise
from longalign.errors import DataError

ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
PIRATE = {"role": "system", "content": "You are a pirate."}
CHAT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
CALLED = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def read(row: dict[str, Any]) -> dict[str, Any]:
    found = normalise(row, "rows.jsonl:7")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"system": PIRATE["content"], "conversations": CHAT}, [PIRATE, ASK, SAY]),
        ({"system_prompt": PIRATE["content"], "messages": [ASK, SAY]}, [PIRATE, ASK, SAY]),
        ({"system": PIRATE["content"], "messages": [PIRATE, ASK, SAY]}, [PIRATE, ASK, SAY]),
        ({"system": "", "messages": [ASK, SAY]}, [ASK, SAY]),
        ({"system": PIRATE["content"], "prompt": "q", "completion": "a"}, [PIRATE, ASK, SAY]),
        ({"system": PIRATE["content"], "prompt": [ASK], "completion": [SAY]}, [PIRATE, ASK, SAY]),
        (
            {"system": PIRATE["content"], "history": [["q1", "a1"]], "instruction": "q", "input": "", "output": "a"},
            [PIRATE, {"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}, ASK, SAY],
        ),
        ({"history": '[["q", "a"]]', "prompt": "q", "response": "a"}, [ASK, SAY, ASK, SAY]),
        ({"history": None, "system": None, "messages": [ASK, SAY]}, [ASK, SAY]),
        ({"messages": [{**PIRATE, "role": "developer"}, ASK, SAY]}, [{**PIRATE, "role": "developer"}, ASK, SAY]),
        ({"conversations": [{"role": "user", "content": "q"}, {"role": "model", "content": "a"}]}, [ASK, SAY]),
        ({"messages": CHAT}, [ASK, SAY]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, SAY]}, [ASK, SAY]),
        ({"messages": [{"role": "user", "content": ["q", {"text": "r", "image": None}]}, SAY]},
         [{"role": "user", "content": "q\nr"}, SAY]),
        ({"messages": [{**ASK, "tool_calls": None, "name": None}, {**SAY, "tool_calls": []}]}, [ASK, SAY]),
    ],
)  # fmt: skip
def test_system_history_roles_and_parts_reach_the_messages(row: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    assert read(row)["messages"] == messages


CALLS = [
    [{"role": "assistant", "content": None, "tool_calls": [CALLED]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}, "index": None}]}],
    [{"role": "assistant", "tool_calls": json.dumps([CALLED])}],
    [{"role": "assistant", "function_call": {"name": "f", "arguments": '{"x": 1}'}}],
    [{"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'}],
    [{"role": "tool_call", "content": '[{"name": "f", "arguments": "{\\"x\\": 1}"}]'}],
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("replied", ["tool", "function", "ipython", "observation", "tool_response"])
def test_a_call_and_its_reply_in_any_form_are_the_same(call: list[dict[str, Any]], replied: str) -> None:
    row = {"messages": [ASK, *call, {"role": replied, "content": "5", "tool_call_id": "c1", "name": "f"}, SAY]}
    called = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
    reply = {"role": "tool", "content": "5", "tool_call_id": "c1", "name": "f"}
    assert read(row)["messages"] == [ASK, called, reply, SAY]


def test_a_turn_that_speaks_and_calls_twice_is_one_message_with_two_replies() -> None:
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'}
    chat = [CHAT[0], {"from": "gpt", "value": "Let me see."}, call, call, *2 * [{"from": "observation", "value": "5"}]]
    said, *rest = read({"conversations": [*chat, CHAT[1]], "tools": "[]"})["messages"][1:]
    assert said == {"role": "assistant", "content": "Let me see.", "tool_calls": [CALLED, CALLED]}
    assert rest == [{"role": "tool", "content": "5"}, {"role": "tool", "content": "5"}, SAY]


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [TOOL]},
        {"tools": json.dumps([TOOL])},
        {"tools": [json.dumps(TOOL)]},
        {"tools": [TOOL["function"]]},
        {"functions": [TOOL["function"]]},
    ],
)
def test_tools_in_any_form_are_the_same(field: dict[str, Any]) -> None:
    for chat in ({"messages": [ASK, SAY]}, {"conversations": CHAT}, {"instruction": "q", "output": "a"}):
        row = read({**field, **chat})
        assert (row["tools"], row["messages"]) == ([TOOL], [ASK, SAY])


@pytest.mark.parametrize("name", ["train", "training", "loss", "weight", "loss_scale"])
@pytest.mark.parametrize(("off", "on"), [(0, 1), (False, True), (0.0, 1.0)])
def test_an_answers_own_flag_is_kept_as_train(name: str, off: Any, on: Any) -> None:
    messages = [{**ASK, name: off}, {**SAY, name: off}, ASK, {**SAY, name: on}, {**ASK, name: None}, SAY]
    wanted = [ASK, {**SAY, "train": False}, ASK, {**SAY, "train": True}, ASK, SAY]
    assert read({"messages": messages})["messages"] == wanted
    keys = {"role": "from", "content": "value"}
    chat = [{keys.get(key, key): value for key, value in message.items()} for message in messages]
    assert read({"conversations": chat})["messages"] == wanted


def test_a_conversation_without_a_trained_answer_and_a_row_of_weight_0_are_left_out_and_counted() -> None:
    left_out: Counter[str] = Counter()
    for row in ({"messages": [ASK, {**SAY, "weight": 0}]}, {"messages": [ASK, SAY], "weight": 0}):
        assert normalise(row, "f:1", left_out) is None
    assert FileRows.of(left_out).left_out == {
        "every answer is flagged as not trained": 1,
        "the row's weight is 0": 1,
    }
    assert "weight" not in read({"messages": [ASK, SAY], "weight": 1.0})


def test_arguments_of_the_template_stay_with_the_row() -> None:
    for written in ({"enable_thinking": False}, '{"enable_thinking": false}'):
        row = read({"messages": [ASK, SAY], "chat_template_kwargs": written})
        assert row["chat_template_kwargs"] == {"enable_thinking": False}


def say(**more: Any) -> dict[str, Any]:
    return {"messages": [ASK, {**SAY, **more}]}


def beside(**more: Any) -> dict[str, Any]:
    return {"messages": [ASK, SAY], **more}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (say(weight=0.5), ["`messages[1].weight` is 0.5", "supported are 0"]),
        (say(train="no"), ["`messages[1].train` is 'no'"]),
        (say(train=True, weight=0), ["`messages[1]`", "`train` and `weight`", "contradict"]),
        (say(train_detail=[{"begin_offset": 0}]), ["`messages[1].train_detail`", "whole answers"]),
        ({"messages": [{**ASK, "train": True}, SAY]}, ["`messages[0].train`", "`user`", "only answers"]),
        (beside(weight=0.5), ["`weight` is 0.5", "more often"]),
        (beside(system="x") | {"messages": [PIRATE, ASK, SAY]}, ["`system`", "differ"]),
        (beside(system="x", system_prompt="y"), ["`system` and `system_prompt` differ"]),
        (beside(system=["x"]), ["`system` is a list"]),
        (beside(history=[["q", "a"]]), ["`history`", "into the conversation"]),
        ({"instruction": "q", "output": "a", "history": [["q"]]}, ["`history[0]` is not [question, answer]"]),
        (beside(images=["a.png"]), ["`images`", "only text"]),
        (beside(enable_thinking=False), ["`enable_thinking`", "`chat_template_kwargs`"]),
        (beside(tools="[{"), ["`tools` is not JSON"]),
        (beside(tools=[{"type": "function"}]), ["`tools[0]` is no tool"]),
        (beside(tools={"a": 1}), ["`tools` is a dict"]),
        (beside(chat_template_kwargs={"messages": []}), ["`chat_template_kwargs.messages` is set by the training"]),
        (beside(chat_template_kwargs={"bos_token": ""}), ["`chat_template_kwargs.bos_token`"]),
        (beside(chat_template_kwargs={"a b": 1}), ["'a b'"]),
        (beside(chat_template_kwargs=[1]), ["`chat_template_kwargs` is a list"]),
        (say(tool_calls=[{"function": {"name": "f", "arguments": '{"x": '}}]), ["[0].function.arguments` is no"]),
        (say(tool_calls=[{"function": {"name": "f", "arguments": "[1]"}}]), ["is a list", "must be an object"]),
        (say(tool_calls=[{"id": "1"}]), ["`messages[1].tool_calls[0].function`"]),
        (say(tool_calls=[{"type": "custom", "custom": {}}]), ["`messages[1].tool_calls[0].type` is 'custom'"]),
        (say(content=[{"type": "image_url", "image_url": {}}]), ["`messages[1].content[0].type` is 'image_url'"]),
        (say(content="\ud800"), ["`messages[1].content` holds half a character"]),
        ({"conversations": [CHAT[0], {"from": "function_call", "value": "f()"}]}, ["[1].value` is not JSON"]),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, ["`chosen` and `rejected`", "as `completion`"]),
        ({"prompt": "q", "completion": "a", "label": False}, ["`label` is false", "leave the row out"]),
        ({"input_ids": [1], "labels": [1]}, ["`input_ids`", "`messages`"]),
        ({"text": "plain"}, ["extend --text"]),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_an_error_with_its_field(row: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        normalise(row, "rows.jsonl:7")
    said = str(error.value)
    assert said.startswith("rows.jsonl:7: ")
    assert "\n" not in said
    assert all(word in said for word in words), said


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats()
    | st.sampled_from(["user", "gpt", "[", "{}", "[[]]", "a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "from",
                    "value",
                    "type",
                    "text",
                    "function",
                    "name",
                    "arguments",
                    "tool_calls",
                    "weight",
                ]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
FIELDS = (
    "messages", "conversations", "prompt", "completion", "instruction", "output", "history", "system", "tools",
    "chat_template_kwargs", "weight", "label", "functions",
)  # fmt: skip
TURN = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "function_call", "system"]), "content": JSON},
    optional=dict.fromkeys(("tool_calls", "function_call", "train", "weight", "name"), JSON),
)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON | st.lists(TURN, max_size=4), max_size=5) | JSON)
def test_any_json_gives_a_row_is_counted_or_is_an_error(raw: Any) -> None:
    left_out: Counter[str] = Counter()
    try:
        row = normalise(raw, "f:1", left_out)
    except DataError:
        return
    assert (row is None) == (sum(FileRows.of(left_out).left_out.values()) == 1)
    if row is not None:
        assert row["messages"][-1]["role"] == "assistant"
        assert all(isinstance(m["content"], str) or m["tool_calls"] for m in row["messages"])
        assert normalise(row, "f:1") == row, "what has been read is read again as it is"


@pytest.mark.parametrize("flag", [{"loss_mask": 0}, {"trainable": False}, {"mask": True}])
def test_a_flag_of_another_program_is_refused(flag: dict[str, object]) -> None:
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because.", **flag}]
    with pytest.raises(DataError, match="flag answers with `train`"):
        read_turns(turns, "f:1", "conversations")
