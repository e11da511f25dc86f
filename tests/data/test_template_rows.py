"""A row in a chat template: all of it is shown, or the error says what is not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from longalign.base.tokenizers import open_tokenizer
from longalign.data.rows import normalise
from longalign.data.tokenize import sequence_of_row
from longalign.errors import DataError
from tests.makers.published import published_tokenizer

CALLS = {
    "tools": [
        {"name": "get_weather", "description": "The weather.", "parameters": {"type": "object", "properties": {}}},
    ],
    "messages": [
        {"role": "system", "content": "Be brief, and use your tools."},
        {"role": "user", "content": "Weather in Paris and in Rome?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call12345", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}},
                {"id": "call12346", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "call12345", "content": "18 degrees"},
        {"role": "tool", "tool_call_id": "call12346", "content": "25 degrees"},
        {"role": "assistant", "content": "18 and 25."},
    ],
}


def read(row: dict[str, Any]) -> dict[str, Any]:
    found = normalise(row, "f:1")
    assert found is not None
    return found


def with_template(template: str) -> Any:
    tokenizer = open_tokenizer("builtin:tiny-base")
    tokenizer.chat_template = template
    return tokenizer


def text_of(tokenizer: Any, row: dict[str, Any]) -> str:
    return str(tokenizer.decode(sequence_of_row(tokenizer, read(row)).ids_T))


def targets_of(tokenizer: Any, row: dict[str, Any]) -> str:
    sequence = sequence_of_row(tokenizer, read(row))
    return str(tokenizer.decode(sequence.ids_T[sequence.target_T]))


PLAIN = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + ('!' if shout and m.role == 'user' else '') }}"
    "{{ '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""Adds content without looking whether there is any, and knows no tools."""


def test_a_rows_own_template_arguments_decide_what_is_rendered() -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert "<|user|>q!<|end|><|assistant|>a<|end|>" in text_of(
        with_template(PLAIN), row | {"chat_template_kwargs": {"shout": True}}
    )
    assert "<|user|>q<|end|><|assistant|>a<|end|>" in text_of(with_template(PLAIN), row)


def test_developer_is_system_where_the_template_has_no_developer() -> None:
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    system, developer = {"role": "system", "content": "One."}, {"role": "developer", "content": "Two."}
    for first, shown in (([developer], "<|system|>Two."), ([system, developer], "<|system|>One.\n\nTwo.")):
        assert f"{shown}<|end|><|user|>q" in text_of(with_template(PLAIN), {"messages": [*first, *talk]})
    known = with_template(PLAIN + "{# developer #}")
    assert "<|developer|>Two.<|end|><|user|>q" in text_of(known, {"messages": [developer, *talk]})


def counted(tokenizer: Any, row: dict[str, Any]) -> Counter[str]:
    counts = Counter[str]()
    sequence_of_row(tokenizer, read(row), counts=counts)
    return +counts


@pytest.mark.parametrize("without", [(), ("tools",)])
def test_tools_and_calls_that_a_template_does_not_show_are_counted(without: tuple[str, ...]) -> None:
    row = {key: value for key, value in CALLS.items() if key not in without}
    assert counted(with_template(PLAIN), row)["rows_with_hidden_tools"] == 1


def test_a_system_prompt_that_is_left_out_is_an_error_and_a_reply_is_counted() -> None:
    deaf = with_template(PLAIN.replace("in messages %}", "in messages if m.role in ['user', 'assistant'] %}"))
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    with pytest.raises(DataError, match=r"does not show message 0, of role `system`; .*--chat_template"):
        sequence_of_row(deaf, read({"system": "Be kind.", "messages": talk}))
    assert counted(deaf, {"messages": talk}) == {}
    replied = {"messages": [talk[0], {"role": "tool", "content": "reply"}, talk[1]]}
    assert counted(deaf, replied) == {"rows_with_hidden_tools": 1}


def test_questions_and_answers_that_a_template_changes_are_counted() -> None:
    talk = {
        "messages": [{"role": role, "content": f"{role} {n} says"} for n in range(2) for role in ("user", "assistant")]
    }
    no_questions = with_template(PLAIN.replace("in messages %}", "in messages if m.role != 'user' %}"))
    assert counted(no_questions, talk) == {"questions_changed": 2}
    shortened = with_template(PLAIN.replace("m.content +", "(m.content[:8] if m.role == 'assistant' else m.content) +"))
    assert counted(shortened, talk) == {"answers_changed": 2}
    assert counted(with_template(PLAIN), talk) == {}
    thinks = {"messages": [talk["messages"][0], {"role": "assistant", "content": "<think>hm</think>\n\nyes "}]}
    drops = PLAIN.replace("m.content +", "m.content.split('</think>')[-1].strip() +")
    assert counted(with_template(drops), thinks) == {}


def test_arguments_printed_as_python_are_counted() -> None:
    printed = PLAIN.replace("{{ '<|end|>' }}", "{% for c in m.tool_calls %}{{ c.function }}{% endfor %}{{ '<|end|>' }}")
    assert counted(with_template(printed), {"messages": CALLS["messages"]}) == {"calls_as_python": 2}
    as_json = printed.replace("c.function", "c.function | tojson")
    assert counted(with_template(as_json), {"messages": CALLS["messages"]}) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shown"),
    [("qwen3", True), ("qwen2_5", True), ("llama3_1", False), ("gemma3", None), ("deepseek_v3", False)],
)
def test_published_templates_show_calls_and_replies_or_it_is_counted(name: str, shown: bool | None) -> None:
    tokenizer = published_tokenizer(name)
    if shown is None:
        with pytest.raises(DataError, match="refuses this conversation"):
            sequence_of_row(tokenizer, read(CALLS))
        return
    assert counted(tokenizer, CALLS)["rows_with_hidden_tools"] == int(not shown)
    if not shown:
        return
    text, targets = text_of(tokenizer, CALLS), targets_of(tokenizer, CALLS)
    for shown in ("Be brief", '"name": "get_weather"', "18 degrees", "25 degrees"):
        assert shown in text
    for city in ("Paris", "Rome"):
        assert f'{{"name": "get_weather", "arguments": {{"city": "{city}"}}}}' in targets
    assert "18 and 25." in targets
    assert not any(words in targets for words in ("degrees", "Be brief", "Weather in"))


@pytest.mark.slow
def test_qwen3_thinks_or_not_as_the_row_says() -> None:
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
    off = row | {"chat_template_kwargs": {"enable_thinking": False}}
    tokenizer = published_tokenizer("qwen3")
    assert targets_of(tokenizer, off) == "ho<|im_end|>"
    assert "ho<|im_end|>" in targets_of(tokenizer, row) != targets_of(tokenizer, off)
