"""Targets for templates of every shape: the assistant's words and their end, and nothing of anybody else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.data import render as rendering
from longalign.data.render import Renderer, render_row
from longalign.data.tokenize import TokenSequence, tokenize_conversation
from longalign.data.turn_spans import find_turns
from longalign.errors import DataError
from tests.makers import chat_templates as shapes
from tests.makers.tokenizers import chat_tokenizer

TALK = [
    {"role": "user", "content": "QUESTION one"},
    {"role": "assistant", "content": "answer one"},
    {"role": "user", "content": "QUESTION two"},
    {"role": "assistant", "content": "answer two"},
]
TOOL_TALK = [
    {"role": "user", "content": "Weather in Paris?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}],
    },
    {"role": "tool", "content": "18"},
    {"role": "assistant", "content": "18 degrees."},
]


def tokenizer(template: str) -> Any:
    return chat_tokenizer(template, bos="<s>", control=shapes.SHAPE_TOKENS)


def runs(tok: Any, sequence: TokenSequence) -> list[str]:
    """Decoded text of each stretch of targets."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], sequence.target_T, [False])).astype(int)))
    return [tok.decode(sequence.ids_T[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


EXPECTED = {
    "CLOSES_AT_THE_END": ["answer one<|end|>", "answer two<|end|>"],
    "ALWAYS_A_HEADER": ["answer one<|eot|>", "answer two<|eot|>"],
    "TOOL_REPLY_INSIDE": ["answer one<|/turn|>", "answer two<|/turn|>"],
    "NEXT_ROLE_CLOSES": ["answer one", "answer two<|endoftext|>"],
    "END_OUTSIDE": ["answer one<|end|>", "answer two<|end|>"],
    "LAST_CLOSES_APART": ["<|message|>answer one<|end|>", "<|message|>answer two<|return|>"],
    "OPENS_A_THOUGHT": ["answer one<|im_end|>", "\n</think>\n\nanswer two<|im_end|>"],
    "TRIMMED_PARTS": [" answer one</s>", " answer two</s>"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_shape_trains_the_answers_and_their_end(name: str) -> None:
    tok, counts = tokenizer(getattr(shapes, name)), Counter[str]()
    assert runs(tok, tokenize_conversation(tok, TALK, counts=counts)) == EXPECTED[name]
    assert counts["turns_without_end"] == (name == "NEXT_ROLE_CLOSES")
    one = tokenize_conversation(tok, TALK[:2])
    end = EXPECTED[name][1].removeprefix("\n</think>\n\n").replace("answer two", "answer one")
    assert runs(tok, one)[0].endswith(end)
    assert int(one.ids_T[np.flatnonzero(one.target_T)[-1]]) in tok.all_special_ids + list(tok.added_tokens_decoder)


@pytest.mark.parametrize("name", ["CLOSES_AT_THE_END", "ALWAYS_A_HEADER"])
def test_what_was_learnt_with_one_tokenizer_is_not_taken_for_another(name: str) -> None:
    template = getattr(shapes, name) + "{# once #}"
    tokenize_conversation(chat_tokenizer(template, bos="<s>"), TALK[:2])  # its ends are no tokens
    whole = tokenizer(template)
    assert runs(whole, tokenize_conversation(whole, TALK)) == EXPECTED[name]


def test_a_tools_reply_inside_the_assistants_turn_is_no_target() -> None:
    tok, counts = tokenizer(shapes.TOOL_REPLY_INSIDE), Counter[str]()
    found = runs(tok, tokenize_conversation(tok, TOOL_TALK, counts=counts))
    assert found == ['<call>get_weather {"city": "Paris"}</call>', "18 degrees.<|/turn|>"]
    assert counts["turns_without_end"] == 1, "a call ends with no token of the tokenizer's"


@pytest.mark.parametrize("name", ["ALWAYS_A_HEADER", "CLOSES_AT_THE_END", "END_OUTSIDE"])
def test_ends_that_are_no_tokens_of_the_tokenizer_are_trained_as_text_and_told(name: str) -> None:
    tok, counts = chat_tokenizer(getattr(shapes, name), bos="<s>"), Counter[str]()
    sequence = tokenize_conversation(tok, TALK, counts=counts)
    assert all("QUESTION" not in run and "user" not in run for run in runs(tok, sequence))
    assert counts["turns_without_end"] == 1
    assert sequence.ids_T[-1] == tok.eos_token_id
    assert sequence.target_T[-1]


def test_turns_of_which_nothing_is_shown_are_counted_and_not_trained() -> None:
    tok, counts = tokenizer(shapes.CHATML), Counter[str]()
    assert runs(tok, tokenize_conversation(tok, TOOL_TALK, counts=counts)) == ["18 degrees.<|im_end|>"]
    assert counts["turns_not_shown"] == 1


def test_a_turn_marked_as_not_to_be_trained_is_no_target() -> None:
    tok = tokenizer(shapes.CHATML)
    flagged = [{**TALK[0]}, {**TALK[1], "train": False}, *TALK[2:]]
    sequence = tokenize_conversation(tok, flagged)
    assert runs(tok, sequence) == ["answer two<|im_end|>"]
    assert (sequence.ids_T == tokenize_conversation(tok, TALK).ids_T).all()
    last = [*TALK[:3], {**TALK[3], "train": False}]
    assert tokenize_conversation(tok, last, train_on="last").target_count == 0


def test_template_options_of_a_row_reach_the_template() -> None:
    tok = tokenizer("{{ mood or 'calm' }}" + shapes.CHATML)
    sequence = tokenize_conversation(tok, TALK, template_options={"mood": "merry"})
    assert tok.decode(sequence.ids_T).startswith("merry<|im_start|>")


def test_control_tokens_spelled_out_by_anybody_are_text() -> None:
    tok = tokenizer(shapes.CHATML)
    spelled = [
        {"role": "user", "content": "what does <|im_end|>\n<|im_start|>assistant\n mean?"},
        {"role": "assistant", "content": "<|im_end|> ends a turn"},
        {"role": "user", "content": "plain"},
        {"role": "assistant", "content": "yes"},
    ]
    sequence = tokenize_conversation(tok, spelled)
    assert runs(tok, sequence) == ["<|im_end|> ends a turn<|im_end|>", "yes<|im_end|>"]
    special = np.isin(sequence.ids_T, tok.all_special_ids + list(tok.added_tokens_decoder))
    assert int(special.sum()) == 2 * len(spelled)
    rendered = tok.apply_chat_template(spelled, tokenize=False)
    assert tok.decode(sequence.ids_T) == rendered
    tail = tok(rendered[rendered.index("<|im_start|>user\nplain") :], add_special_tokens=False)["input_ids"]
    assert sequence.ids_T[-len(tail) :].tolist() == tail, "tokens of turns that spell nothing stay as they are"


def test_the_work_of_a_row_grows_with_its_turns_and_no_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def counted(self: Renderer, *args: Any, **how: Any) -> str:
        text = render(self, *args, **how)
        written.append(len(text))
        return text

    render = Renderer.__call__
    monkeypatch.setattr(rendering.Renderer, "__call__", counted)
    tok = tokenizer(shapes.CLOSES_AT_THE_END)
    tokenize_conversation(tok, TALK)  # what is learnt once a template
    cost = {}
    for turns in (40, 400):
        written.clear()
        tokenize_conversation(tok, TALK[:2] * (turns // 2))
        cost[turns] = (len(written), sum(written))
    assert cost[40][0] == cost[400][0] <= 5
    assert cost[400][1] < 10 * cost[40][1]


def test_short_answers_and_answers_that_begin_like_a_prompt_are_whole() -> None:
    ignores_tools = tokenizer(shapes.CLOSES_AT_THE_END.replace("in messages %}", "in messages if m.role != 'tool' %}"))
    assert runs(ignores_tools, tokenize_conversation(ignores_tools, [*TOOL_TALK[:3], says("1}")])) == ["1}<|end|>"]
    llama2 = tokenizer(shapes.LLAMA2)
    assert runs(llama2, tokenize_conversation(llama2, [TALK[0], says("[/INST] is a mark")])) == [
        " [/INST] is a mark </s>"
    ]
    thinks = tokenizer(shapes.OPENS_A_THOUGHT.replace("{{ m.reasoning_content }}", "so"))
    assert runs(thinks, tokenize_conversation(thinks, TALK))[1] == "so\n</think>\n\nanswer two<|im_end|>"
    brings = tokenizer(shapes.CHATML.replace("assistant\\n{% endif %}", "assistant\\n<think>\\n{% endif %}"))
    talk = [TALK[0], says("<think>\nhm\n</think>\n\nyes")]
    assert runs(brings, tokenize_conversation(brings, talk))[0].endswith("hm\n</think>\n\nyes<|im_end|>")


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_a_template_that_cannot_be_read_is_refused_with_what_to_do() -> None:
    shuffled = "{% for m in messages | sort(attribute='content') %}{{ m.content }} {{ m.role }}{% endfor %}"
    with pytest.raises(DataError, match="chat_template FILE"):
        tokenize_conversation(tokenizer(shuffled), TALK)


words = st.text(alphabet=st.sampled_from("ab C.7\n\"<>|/\\'第é́👩"), min_size=1, max_size=12).filter(str.strip)
turns = st.lists(st.tuples(words, words), min_size=1, max_size=4)
CLOSED = {
    "CHATML": "<|im_end|>", "CHATML_MARKED": "<|im_end|>", "LLAMA3": "<|eot_id|>", "LLAMA2": "</s>",
    "GEMMA": "<end_of_turn>", "QWEN3": "<|im_end|>", "ROLE_MARKS": "<|end|>", "CLOSES_AT_THE_END": "<|end|>",
    "ALWAYS_A_HEADER": "<|eot|>", "TOOL_REPLY_INSIDE": "<|/turn|>", "END_OUTSIDE": "<|end|>", "TRIMMED_PARTS": "</s>",
    "GLM4": "", "NEXT_ROLE_CLOSES": "",
}  # fmt: skip
MADE = {name: tokenizer(getattr(shapes, name)) for name in CLOSED}


@settings(max_examples=60, deadline=None)
@given(pairs=turns, name=st.sampled_from(list(CLOSED)))
def test_any_words_in_any_shape_stay_with_whoever_wrote_them(pairs: list[tuple[str, str]], name: str) -> None:
    """The spans are the answers with white space of the layout around them; only the end follows."""
    tok = MADE[name]
    messages = [m for q, a in pairs for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    render = Renderer(tok)
    read, text = render_row(render, messages)
    found = find_turns(render, read, text)
    said = [text[span.start : span.end] for span in found.spans]
    assert [part.removesuffix(CLOSED[name]).removeprefix("<think>\n\n</think>\n\n").strip() for part in said] == [
        answer.strip() for _, answer in pairs
    ]
    sequence = tokenize_conversation(tok, messages)
    targets = [int(n) for n in np.flatnonzero(sequence.target_T)]
    assert tok.decode(sequence.ids_T[targets]).count(CLOSED[name] or "<|endoftext|>") == (
        len(pairs) if CLOSED[name] else 1
    )


@settings(max_examples=30, deadline=None)
@given(pairs=turns, name=st.sampled_from(["CHATML", "LLAMA3", "GEMMA", "TOOL_REPLY_INSIDE"]), data=st.data())
def test_other_peoples_words_change_no_target(pairs: list[tuple[str, str]], name: str, data: st.DataObject) -> None:
    tok = MADE[name]
    others = data.draw(st.lists(words, min_size=len(pairs), max_size=len(pairs)))

    def targets(questions: list[str]) -> list[str]:
        talk = [
            message
            for question, (_, answer) in zip(questions, pairs, strict=True)
            for message in ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
        ]
        return runs(tok, tokenize_conversation(tok, talk))

    assert targets([question for question, _ in pairs]) == targets(others)
