"""Tokenisation: ids are those of the template, targets are exactly what the assistant has to produce."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.data.tokenize import TokenSequence, tokenize_conversation, tokenize_document, windows
from longalign.errors import DataError, ModelError
from tests.makers.chat_templates import CHATML, CHATML_MARKED, GEMMA, GLM4, LLAMA2, LLAMA3, QWEN3
from tests.makers.tokenizers import chat_tokenizer

TWO_TURNS = [
    {"role": "user", "content": "Which value does the register give?"},
    {"role": "assistant", "content": "It gives forty two."},
    {"role": "user", "content": "第二章讲了什么？"},
    {"role": "assistant", "content": "第二章讲了 the northern gate."},
]


def target_runs(tok: Any, sequence: TokenSequence) -> list[str]:
    """Decoded text of each stretch of targets."""
    runs: list[list[int]] = []
    for position in np.flatnonzero(sequence.target_T).tolist():
        if runs and runs[-1][-1] == position - 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    return [tok.decode(sequence.ids_T[run]) for run in runs]


TEMPLATES = {
    "chatml": (CHATML, "{}<|im_end|>"),
    "llama3": (LLAMA3, "{}<|eot_id|>"),
    "llama2": (LLAMA2, " {} </s>"),
    "gemma": (GEMMA, "{}<end_of_turn>"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_targets_are_the_answers_with_their_end_of_turn(name: str) -> None:
    template, shape = TEMPLATES[name]
    tok = chat_tokenizer(template)
    sequence = tokenize_conversation(tok, TWO_TURNS)
    answers = [m["content"] for m in TWO_TURNS if m["role"] == "assistant"]
    assert target_runs(tok, sequence) == [shape.format(answer) for answer in answers]
    rendered = tok.apply_chat_template(TWO_TURNS, tokenize=True, return_dict=True)["input_ids"]
    assert sequence.ids_T.tolist() == rendered
    last = tokenize_conversation(tok, TWO_TURNS, train_on="last")
    assert target_runs(tok, last) == [shape.format(answers[-1])]


def test_generation_blocks_of_a_template_are_used() -> None:
    tok = chat_tokenizer(CHATML_MARKED)
    marked = tokenize_conversation(tok, TWO_TURNS)
    assert target_runs(tok, marked) == ["It gives forty two.<|im_end|>", "第二章讲了 the northern gate.<|im_end|>"]
    plain = tokenize_conversation(chat_tokenizer(CHATML), TWO_TURNS)
    assert (marked.ids_T == plain.ids_T).all()
    assert (marked.target_T == plain.target_T).all()


def test_a_template_without_end_of_turn_gets_the_tokenizers_end_after_the_last_answer() -> None:
    tok = chat_tokenizer(GLM4)
    sequence = tokenize_conversation(tok, TWO_TURNS)
    assert target_runs(tok, sequence) == ["It gives forty two.", "第二章讲了 the northern gate.<|endoftext|>"]


def test_thinking_of_earlier_turns_follows_the_template_and_can_be_stripped() -> None:
    tok = chat_tokenizer(QWEN3)
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nfirst thought\n</think>\n\nfirst answer"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "<think>\nsecond thought\n</think>\n\nsecond answer"},
    ]
    kept = target_runs(tok, tokenize_conversation(tok, messages))
    assert kept == ["first answer<|im_end|>", "<think>\nsecond thought\n</think>\n\nsecond answer<|im_end|>"]
    stripped = target_runs(tok, tokenize_conversation(tok, messages, thinking="strip"))
    assert stripped == ["first answer<|im_end|>", "<think>\n\n</think>\n\nsecond answer<|im_end|>"]


def test_tool_calls_are_targets_and_tool_results_are_not() -> None:
    tok = chat_tokenizer(QWEN3)
    call = {"type": "function", "function": {"name": "look_up", "arguments": {"gate": "north"}}}
    messages = [
        {"role": "user", "content": "Which value?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "forty two"},
        {"role": "assistant", "content": "It is forty two."},
    ]
    runs = target_runs(tok, tokenize_conversation(tok, messages))
    assert len(runs) == 2
    assert runs[0].endswith('look_up({"gate": "north"})\n</tool_call><|im_end|>')
    assert runs[1].endswith("It is forty two.<|im_end|>")
    assert "forty two" not in runs[0]


def test_the_answer_is_found_even_when_its_text_stands_elsewhere_too() -> None:
    """The published code searched for two marker tokens; here nothing is searched by content."""
    tok = chat_tokenizer(CHATML)
    messages = [
        {"role": "user", "content": "yes <eot> yes"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "yes"},
        {"role": "assistant", "content": "yes"},
    ]
    sequence = tokenize_conversation(tok, messages)
    assert target_runs(tok, sequence) == ["yes<|im_end|>"] * 2
    assert tok.decode(sequence.ids_T).count("yes") == 5


def test_a_pad_token_in_the_text_does_not_end_a_sequence() -> None:
    """Regression: the published code found a sequence's length by searching its ids for the pad id."""
    tok = chat_tokenizer(CHATML)
    assert tok.pad_token == "<|endoftext|>"
    messages = [{"role": "user", "content": "before <|endoftext|> after"}, {"role": "assistant", "content": "done"}]
    sequence = tokenize_conversation(tok, messages)
    assert target_runs(tok, sequence) == ["done<|im_end|>"]
    assert "after" in tok.decode(sequence.ids_T)


text = st.text(alphabet=st.sampled_from("ab xy\n第?.<|>"), min_size=1, max_size=30).filter(lambda s: s.strip())


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(text, text), min_size=1, max_size=4), name=st.sampled_from(["chatml", "llama3"]))
def test_any_text_keeps_targets_apart_from_prompts(pairs: list[tuple[str, str]], name: str) -> None:
    template, shape = TEMPLATES[name]
    tok = chat_tokenizer(template)
    messages = [m for q, a in pairs for m in ({"role": "user", "content": q}, {"role": "assistant", "content": a})]
    sequence = tokenize_conversation(tok, messages)
    trim = (lambda s: s.strip()) if name == "llama3" else (lambda s: s)
    found = target_runs(tok, sequence)
    # the header's newline may share a token with a newline that begins the answer; then the token is a target
    assert [run.lstrip("\n") for run in found] == [shape.format(trim(a)).lstrip("\n") for _, a in pairs]


def test_refusals_say_what_to_do() -> None:
    tok = chat_tokenizer(CHATML)
    tok.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        tokenize_conversation(tok, TWO_TURNS)
    with pytest.raises(DataError, match="refuses this conversation: only user and assistant"):
        tokenize_conversation(chat_tokenizer(LLAMA2), [{"role": "system", "content": "x"}, *TWO_TURNS])


def test_evidence_is_marked_as_protected() -> None:
    tok = chat_tokenizer(CHATML)
    sequence = tokenize_conversation(tok, TWO_TURNS, evidence=["value does the register", "not there"])
    assert sequence.protected_T is not None
    assert tok.decode(sequence.ids_T[sequence.protected_T]).strip() == "value does the register"


def test_documents_are_all_targets_and_end_with_eos() -> None:
    tok = chat_tokenizer(CHATML)
    sequence = tokenize_document(tok, "The register <|im_end|> gives seven values.")
    assert sequence.ids_T[-1] == tok.eos_token_id
    assert sequence.target_count == sequence.length_tokens - 1
    assert tok.convert_tokens_to_ids("<|im_end|>") not in sequence.ids_T
    assert tok.decode(sequence.ids_T[:-1]) == "The register <|im_end|> gives seven values."


@given(length=st.integers(0, 60), window=st.integers(2, 20))
def test_windows_cover_a_document_in_order(length: int, window: int) -> None:
    whole = TokenSequence(np.arange(length, dtype=np.int32), np.arange(length) > 0)
    parts = list(windows(whole, window))
    joined = np.concatenate([p.ids_T for p in parts]) if parts else np.zeros(0)
    assert all(p.length_tokens <= window and p.target_count and not p.target_T[0] for p in parts)
    assert joined.tolist() == list(range(len(joined)))
    assert len(joined) >= length - 1
