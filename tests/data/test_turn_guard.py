"""The guard is told wrong spans, as a wrong finder would give them, and refuses each of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from longalign.data import tokenize
from longalign.data.controls import controls_of
from longalign.data.render import Renderer, render_row
from longalign.data.to_tokens import RowEncoder, tokenize_rows
from longalign.data.turn_guard import check_turns
from longalign.data.turn_spans import Found, Span, find_turns
from longalign.errors import DataError
from tests.makers import chat_templates as shapes
from tests.makers.tokenizers import chat_tokenizer

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "QUESTION one"},
    {"role": "assistant", "content": "answer one"},
    {"role": "user", "content": "QUESTION two"},
    {"role": "assistant", "content": "answer two"},
    {"role": "user", "content": "QUESTION three"},
    {"role": "assistant", "content": "answer three"},
]
Wrong = Callable[[str, list[Span]], list[Span]]


def header(text: str, span: Span) -> int:
    """Characters of the assistant's header before a span: what stands behind the question before it, without an end."""
    before = text[: span.start]
    question = max(before.rfind(str(message["content"])) + len(str(message["content"])) for message in TALK)
    gap = before[question:]
    ends = [
        end for end in ("<|im_end|>\n", "</s>\n", "<|eot_id|>", "<end_of_turn>\n", "<|end|>\n", "<|eot|>") if end in gap
    ]
    return len(gap) - (gap.index(ends[0]) + len(ends[0]) if ends else 0)


WRONG: dict[str, Wrong] = {
    "one character to the right": lambda t, s: [replace(p, start=p.start + 1, end=min(p.end + 1, len(t))) for p in s],
    "one character to the left": lambda t, s: [replace(p, start=p.start - 1, end=p.end - 1) for p in s],
    "three characters late": lambda t, s: [replace(p, start=p.start + 3) for p in s],
    "two characters too short": lambda t, s: [replace(p, end=p.end - 2) for p in s],
    "up to the next turn's end": lambda t, s: [replace(s[0], end=s[1].end), *s[2:]],
    "up to the next answer": lambda t, s: [replace(s[0], end=s[1].start), *s[1:]],
    "the next question": lambda t, s: [replace(s[0], end=t.index("QUESTION two") + 12), *s[1:]],
    "the next header": lambda t, s: [replace(s[0], end=t.index("QUESTION two")), *s[1:]],
    "up to the next header's end": lambda t, s: [replace(p, end=q.start - 1) for p, q in pairwise(s)] + s[-1:],
    "the question before": lambda t, s: [*s[:-1], replace(s[-1], start=t.index("QUESTION three"))],
    "its own header": lambda t, s: [replace(p, start=p.start - header(t, p)) for p in s],
    "the last one's header": lambda t, s: [*s[:-1], replace(s[-1], start=s[-1].start - header(t, s[-1]))],
    "no end": lambda t, s: [replace(p, end=p.start + t[p.start : p.end].index("answer") + 10) for p in s[:2]] + s[2:],
    "no end of the last": lambda t, s: [*s[:-1], replace(s[-1], end=t.index("answer three") + 12)],
    "the question in place of the answer": lambda t, s: [
        Span(t.index("QUESTION one"), t.index("QUESTION one") + 12, False, 2), *s[1:],
    ],
    "another turn's number": lambda t, s: [replace(s[1], turn=2), replace(s[0], turn=4), s[2]],
    "a user's turn": lambda t, s: [replace(s[0], turn=1), *s[1:]],
    "the whole conversation": lambda t, s: [Span(0, len(t), True, 2)],
}  # fmt: skip
TEMPLATES = {
    "CHATML": shapes.CHATML, "LLAMA3": shapes.LLAMA3, "GEMMA": shapes.GEMMA, "QWEN3": shapes.QWEN3,
    "CLOSES_AT_THE_END": shapes.CLOSES_AT_THE_END, "ALWAYS_A_HEADER": shapes.ALWAYS_A_HEADER,
    "PLAIN_HEADERS": "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT: ' }}{% endif %}",
}  # fmt: skip


def right_spans(template: str) -> tuple[Renderer, Found, frozenset[str]]:
    tok = chat_tokenizer(template, bos="<s>", control=shapes.SHAPE_TOKENS)
    render = Renderer(tok)
    read, text = render_row(render, TALK)
    return render, find_turns(render, read, text), controls_of(tok).added


@pytest.mark.parametrize("name", TEMPLATES)
def test_right_spans_pass_and_every_wrong_one_is_refused(name: str) -> None:
    render, found, control = right_spans(TEMPLATES[name])
    check_turns(render, TALK, found.text, found.spans, control)
    passed = []
    wrongs = dict(WRONG)
    if name == "ALWAYS_A_HEADER":
        wrongs["the header that closes the text"] = lambda t, s: [*s[:-1], replace(s[-1], end=len(t))]
    for fault, wrong in wrongs.items():
        spans = wrong(found.text, list(found.spans))
        assert spans != found.spans
        try:
            check_turns(render, TALK, found.text, spans, control)
        except DataError:
            continue
        passed.append(fault)
    assert passed == []


def test_words_that_occur_twice_and_tools_that_are_described_raise_no_alarm() -> None:
    tok = chat_tokenizer(shapes.QWEN3, control=shapes.SHAPE_TOKENS)
    call = {"type": "function", "function": {"name": "look_up", "arguments": {"who": "user", "gate": "north"}}}
    talk = [
        {"role": "system", "content": "You have look_up. <|im_start|>user means a user."},
        {"role": "user", "content": "yes"},
        {"role": "assistant", "content": "yes", "tool_calls": [call]},
        {"role": "tool", "content": "yes"},
        {"role": "assistant", "content": "yes user assistant <|im_start|>user"},
    ]
    assert tokenize.tokenize_conversation(tok, talk).target_count > 0
    ignoring = shapes.CHATML.replace("in messages %}", "in messages if m.role != 'tool' %}")
    ignores_tools = chat_tokenizer(ignoring)
    repeated = [TALK[1], {**TALK[2], "tool_calls": [call]}, {"role": "tool", "content": "18"}, TALK[3]]
    repeated.append({"role": "assistant", "content": "18 degrees"})
    assert tokenize.tokenize_conversation(ignores_tools, repeated).target_count > 0
    dropped = [TALK[1], {**TALK[2], "reasoning_content": "user"}, {**TALK[3], "content": "so"}, TALK[4]]
    assert tokenize.tokenize_conversation(ignores_tools, dropped).target_count > 0


def test_a_finder_that_is_wrong_stops_the_run_with_the_row_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(render: Renderer, messages: Sequence[object], text: str) -> Found:
        found = find_turns(render, messages, text)  # type: ignore[arg-type]
        return replace(found, spans=[replace(found.spans[0], end=len(text)), *found.spans[1:]][:1])

    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"messages": TALK[1:3]}) + "\n" + json.dumps({"messages": TALK}) + "\n")
    monkeypatch.setattr(tokenize, "find_turns", too_long)
    encoder = RowEncoder("builtin:tiny-base", 2048)
    with pytest.raises(DataError, match=r"rows\.jsonl:2: targets cannot be told.*--chat_template FILE"):
        tokenize_rows(tmp_path / "tokens", {str(rows): None}, encoder, seed=1, stamp="s")


def test_a_question_that_a_template_repeats_in_the_answers_turn_is_refused() -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        "[{{ messages[loop.index0 - 1].content }}] {% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    talk = [{"role": "user", "content": "Why is the sky above us blue?"}, {"role": "assistant", "content": "Light."}]
    with pytest.raises(DataError, match=r"words of message 0 \(user\) are inside"):
        tokenize.tokenize_conversation(chat_tokenizer(template), talk)
