"""Thoughts and control tokens are no part of an answer; an answer may talk about them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.llm.thoughts import Parts, clean, take_apart

ANSWER = "The treaty was signed in 1648."


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nhm, 1648?\n</think>\n\n" + ANSWER,
        "hm, 1648?\n</think>\n\n" + ANSWER,  # the chat template opened the thoughts
        "hm, 1648?</think>" + ANSWER,
        "<thinking>hm, 1648?</thinking>" + ANSWER,
        "<reasoning>\nhm, 1648?\n</reasoning>\n" + ANSWER,
        "<thought>hm, 1648?</thought>" + ANSWER,
        "<THINK>hm, 1648?</THINK>" + ANSWER,
        "[THINK]hm, 1648?[/THINK]" + ANSWER,
        "◁think▷hm, 1648?◁/think▷" + ANSWER,
        "<seed:think>hm, 1648?</seed:think>" + ANSWER,
        "<|channel>thought\nhm, 1648?<channel|>" + ANSWER,
        "<|START_THINKING|>hm, 1648?<|END_THINKING|><|START_RESPONSE|>" + ANSWER + "<|END_RESPONSE|>",
        "<|begin_of_thought|>hm, 1648?<|end_of_thought|>\n<|begin_of_solution|>" + ANSWER + "<|end_of_solution|>",
        "<|channel|>analysis<|message|>hm, 1648?<|end|><|start|>assistant<|channel|>final<|message|>" + ANSWER,
        "<|start|>assistant<|channel|>analysis<|message|>hm, 1648?<|end|><|start|>assistant<|channel|>final<|message|>"
        + ANSWER
        + "<|return|>",
        "analysisHm, 1648?assistantfinal" + ANSWER,
        "<think>hm, 1648?</think><answer>" + ANSWER + "</answer>",
        "<|im_start|>assistant\n<think>hm, 1648?</think>\n" + ANSWER + "<|im_end|>",
        "<think>I must not write `</think>` too early.\n\nhm, 1648?\n</think>\n\n" + ANSWER,
        "<think>hm,\n</think>\nno, 1648?\n</think>\n" + ANSWER,
        "hm,\n```\nan open fence, 1648?\n</think>\n" + ANSWER,
        ANSWER + "\n<think>\nhm, 1648?\n</think>\n",
        "<think>\n\n</think>\n\n" + ANSWER,
        ANSWER,
    ],
)
def test_only_the_answer_is_the_answer_however_thoughts_are_marked(text: str) -> None:
    parts = take_apart(text)
    assert parts.answer.strip() == ANSWER
    assert parts.closed
    assert ("1648?" in parts.thoughts) == ("1648?" in text)
    assert not {"<", "[", "|"} & set(parts.thoughts.replace("`</think>`", ""))


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        ("<think>\nOkay, let me see. " + ANSWER, False),
        ("<|channel|>analysis<|message|>Okay, let me see. " + ANSWER, False),
        ("analysisOkay, let me see. " + ANSWER, False),
        ("Okay, let me see. " + ANSWER, True),
        ("<think>\nOkay, let me see. " + ANSWER, True),
        ("[THINK]Okay", False),
    ],
)
def test_thoughts_that_never_end_hold_no_answer(text: str, opened: bool) -> None:
    parts = take_apart(text, opened=opened)
    assert (parts.answer, parts.closed) == ("", False)
    assert "Okay" in parts.thoughts


@pytest.mark.parametrize(
    "text",
    [
        "The model wraps its thoughts in `<think>` and `</think>`.",
        "The model wraps its thoughts in <think> and </think> tags.",
        "The token </think> ends the thoughts.",
        'It is written "</think>" in the template.',
        "Use this:\n\n```xml\n<think>\nfirst\n</think>\n```\n\nThen parse it.",
        "Type `a.</think> b` to end it.",
        "标签 “</think>” 结束思考。",
        "It closes with `<|im_end|>`.",
        'The end of a turn is "<|eot_id|>", they say.',
        "```\n<|im_start|>user\nhi<|im_end|>\n```",
        "It was <s>struck out</s> later, as <s>was this</s>",
        "F# writes f <| x, and C++ vector<int>.",
        "analysis of the text: none",
    ],
)
def test_an_answer_may_talk_about_the_marks(text: str) -> None:
    assert take_apart(text) == Parts(text)


@pytest.mark.parametrize(
    "tail",
    [
        "<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "<|endoftext|>", "<|end|>", "<｜end▁of▁sentence｜>",
        "<|unheard_of|>", "<|im_end|>\n<|endoftext|>", "<|im_end|>\n<|im_start|>user\nAnd then?",
        "</s>[INST] And then?",
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd then?", "<turn|>\n<|turn>user\nAnd then?", "<eos>",
    ],
)  # fmt: skip
def test_a_control_token_ends_the_answer(tail: str) -> None:
    assert take_apart(ANSWER + tail).answer == ANSWER
    assert take_apart(tail).answer == ""  # the server went on after an empty turn


@settings(max_examples=40)
@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_that_stands_before_a_closing_mark_on_its_own_line_is_answered(thought: str, answer: str) -> None:
    plain = not {"`", "~", "<", "[", "◁", "|"} & set(thought + answer) and not answer.startswith("analysis")
    if plain and not thought.startswith("analysis"):
        parts = take_apart(f"{thought}\n</think>\n\n{answer}")
        assert parts.answer == answer.lstrip()
        assert parts.thoughts == thought.strip()


def test_what_files_and_readers_stumble_over_is_taken_out_and_counted() -> None:
    assert clean("\ufeffa\x00b\u202ec\u2066d\x1b[31me") == ("abcde", 5)
    assert clean("a\u2028b\x0cc\x85d") == ("a\nb\nc\nd", 3)
    assert clean("a\r\nb\rc") == ("a\nb\nc", 0)
    assert clean("a\ud83d") == ("a?", 1)
    untouched = "tab\tline\nعربي\u200f, עברית\u200e, می\u200cخواهم, 👩\u200d💻, é, 汉字"
    assert clean(untouched) == (untouched, 0)


@given(st.text(st.characters(exclude_categories=())))
def test_clean_text_can_be_written_is_one_line_each_and_stays_clean(text: str) -> None:
    cleaned, _ = clean(text)
    assert json.loads(json.dumps(cleaned, ensure_ascii=False).encode()) == cleaned
    assert f"{cleaned}.".splitlines() == f"{cleaned}.".split("\n")
    assert clean(cleaned) == (cleaned, 0)
