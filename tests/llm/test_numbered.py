"""Numbered lists, as models really write them."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longalign.llm.numbered import numbered_items

THREE = ["What is it?", "Why is it?", "Who says so?"]
WORD = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="*_#->()[]（）"), min_size=1, max_size=12)
LINE = st.tuples(st.characters(categories=["L"]), st.lists(WORD, max_size=6)).map(lambda t: " ".join([t[0], *t[1]]))


@pytest.mark.parametrize(
    "reply",
    [
        "1: What is it?\n2: Why is it?\n3: Who says so?",
        "1. What is it?\n\n2. Why is it?\n\n3. Who says so?",
        "1) What is it?\n2) Why is it?\n3) Who says so?",
        "(1) What is it?\n(2) Why is it?\n(3) Who says so?",
        "Here are the questions:\n\n1: What is it?\n2: Why is it?\n3: Who says so?\n\nI hope they help!",
        "**1.** What is it?\n**2.** Why is it?\n**3.** Who says so?",
        "1. **What is it?**\n2. **Why is it?**\n3. **Who says so?**",
        "Question 1: What is it?\nQuestion 2: Why is it?\nQuestion 3: Who says so?",
        "Q1. What is it?\nQ2. Why is it?\nQ3. Who says so?",
        "１：What is it?\n２：Why is it?\n３：Who says so?",
        "①What is it?\n② Why is it?\n③ Who says so?",
        "1: What is it? 2: Why is it? 3: Who says so?",
        "1:\nWhat is it?\n2:\nWhy is it?\n3:\nWho says so?",
        "  1: What is it?  \n  2: Why is it?\n  3: Who says so?",
    ],
)
def test_the_usual_forms_give_the_same_items(reply: str) -> None:
    assert numbered_items(reply, limit=5) == THREE


DIGITS = {"arabic": "٠١٢٣٤٥٦٧٨٩", "full width": "０１２３４５６７８９", "devanagari": "०१२३४५६७८९"}
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
HAN = "一二三四五六七八九"
STYLES: dict[str, Callable[[list[str]], str]] = {
    "bold number": lambda qs: "\n".join(f"**{i}.** {q}" for i, q in enumerate(qs, 1)),
    "bold label": lambda qs: "\n\n".join(f"**Question {i}:** {q}" for i, q in enumerate(qs, 1)),
    "label on a line": lambda qs: "\n\n".join(f"**Question {i}**\n{q}" for i, q in enumerate(qs, 1)),
    "heading": lambda qs: "\n\n".join(f"### Question {i}\n\n{q}" for i, q in enumerate(qs, 1)),
    "dash": lambda qs: "\n".join(f"{i} - {q}" for i, q in enumerate(qs, 1)),
    "hash": lambda qs: "\n".join(f"#{i}: {q}" for i, q in enumerate(qs, 1)),
    "from 0": lambda qs: "\n".join(f"{i}: {q}" for i, q in enumerate(qs)),
    "bullets": lambda qs: "\n".join(f"- {q}" for q in qs),
    "han": lambda qs: "\n".join(f"{HAN[i]}、{q}" for i, q in enumerate(qs)),
    "han label": lambda qs: "\n".join(f"问题{HAN[i]}：{q}" for i, q in enumerate(qs)),
    "han ordinal": lambda qs: "\n".join(f"第{i}题：{q}" for i, q in enumerate(qs, 1)),
    "japanese": lambda qs: "\n".join(f"質問{i}：{q}" for i, q in enumerate(qs, 1)),
    "korean": lambda qs: "\n".join(f"질문 {i}: {q}" for i, q in enumerate(qs, 1)),
    "roman": lambda qs: "\n".join(f"{ROMAN[i]}. {q}" for i, q in enumerate(qs)),
    "json": lambda qs: json.dumps(qs),
    "json objects": lambda qs: "```json\n" + json.dumps({"questions": [{"question": q} for q in qs]}) + "\n```",
    "fenced": lambda qs: "```\n" + "\n".join(f"{i}: {q}" for i, q in enumerate(qs, 1)) + "\n```",
    "answers": lambda qs: "\n".join(f"{i}: {q}\n   Answer: It says so." for i, q in enumerate(qs, 1)),
    "answers behind": lambda qs: "\n".join(f"{i}. {q} **Answer:** It says so." for i, q in enumerate(qs, 1)),
    "closing words": lambda qs: "\n".join(f"{i}: {q}" for i, q in enumerate(qs, 1)) + "\nI hope these help!",
    "talk around json": lambda qs: "Here:\n\n```json\n" + json.dumps(qs) + "\n```\nI hope these help!",
    "dash behind the number": lambda qs: "\n".join(f"{i}- {q}" for i, q in enumerate(qs, 1)),
    "heading behind": lambda qs: "\n".join(f"{i}: {q}" for i, q in enumerate(qs, 1)) + "\n### End",
    "quoted": lambda qs: "\n".join(f'{i}. "{q}"' for i, q in enumerate(qs, 1)),
    "typed": lambda qs: "\n".join(f"{i}. **Fact:** {q}" for i, q in enumerate(qs, 1)),
    "kind in brackets": lambda qs: "\n".join(f"{i}. (Reasoning) {q}" for i, q in enumerate(qs, 1)),
    "answer in one letter": lambda qs: "\n".join(f"{i}. {q} A: It says so." for i, q in enumerate(qs, 1)),
    "chinese answers": lambda qs: "\n".join(f"{HAN[i]}、{q}\n答：是的。" for i, q in enumerate(qs)),
    "answer in bold, below": lambda qs: "\n\n".join(f"{i}. **{q}**\n\n   It says so." for i, q in enumerate(qs, 1)),
    "answer below without a label": lambda qs: "\n".join(f"{i}. {q}\n   It says so." for i, q in enumerate(qs, 1)),
    "answer behind an arrow": lambda qs: "\n".join(f"{i}. {q} → It says so." for i, q in enumerate(qs, 1)),
    "answers anew": lambda qs: "\n".join(f"{ROMAN[i]}. {q}" for i, q in enumerate(qs)) + "\nAnswers:\n1: A\n2: B",
    "hint": lambda qs: "\n".join(f"{i}. {q}\n   (Hint: see section 2)" for i, q in enumerate(qs, 1)),
    "kind behind": lambda qs: "\n".join(f"{i}. {q} (reasoning)" for i, q in enumerate(qs, 1)),
    "title above": lambda qs: "\n".join(f"{i}. **The old harbour**\n{q}" for i, q in enumerate(qs, 1)),
    "title before": lambda qs: "\n".join(f"{i}. **The old harbour** - {q}" for i, q in enumerate(qs, 1)),
    "label inside": lambda qs: "\n".join(f"{i}. Q: {q}" for i, q in enumerate(qs, 1)),
    "two marks": lambda qs: "\n".join(f"{i}.) {q}" for i, q in enumerate(qs, 1)),
    "escaped": lambda qs: "\n".join(f"{i}\\. {q}" for i, q in enumerate(qs, 1)),
    "keycaps": lambda qs: "\n".join(f"{i}\ufe0f\u20e3 {q}" for i, q in enumerate(qs, 1)),
    "how many": lambda qs: "\n".join(f"Question {i} of {len(qs)}: {q}" for i, q in enumerate(qs, 1)),
    "letters": lambda qs: "\n".join(f"{'abcdefghi'[i]}) {q}" for i, q in enumerate(qs)),
    "small roman": lambda qs: "\n".join(f"({ROMAN[i].lower()}) {q}" for i, q in enumerate(qs)),
    "a question a line": lambda qs: "\n".join(qs),
    "tags": lambda qs: "<questions>\n" + "\n".join(f"<question>{q}</question>" for q in qs) + "\n</questions>",
    "table": lambda qs: "| # | Question |\n|---|---|\n" + "\n".join(f"| {i} | {q} |" for i, q in enumerate(qs, 1)),
    "json with talk": lambda qs: "Here they are:\n" + json.dumps(qs) + "\nI hope these help!",
    "json lines": lambda qs: "\n".join(json.dumps({"question": q, "answer": "It says so."}) for q in qs),
    "chinese ordinal": lambda qs: "\n".join(f"第{HAN[i]}个问题：{q}" for i, q in enumerate(qs)),
    **{
        name: lambda qs, digits=digits: "\n".join(f"{digits[i]}. {q}" for i, q in enumerate(qs, 1))  # type: ignore[misc]
        for name, digits in DIGITS.items()
    },
}
WORDS = st.lists(st.from_regex(r"[a-zß-ö]{1,9}", fullmatch=True), min_size=1, max_size=6)
ASKED = st.tuples(st.characters(categories=["Lu", "Lo"]), WORDS)


@pytest.mark.parametrize("style", STYLES)
@given(questions=st.lists(ASKED.map(lambda t: f"{t[0]} {' '.join(t[1])}?"), min_size=2, max_size=9, unique=True))
@settings(max_examples=25)
def test_every_style_gives_the_questions_and_nothing_else(style: str, questions: list[str]) -> None:
    assert numbered_items(STYLES[style](questions), limit=len(questions)) == questions


@pytest.mark.parametrize(
    "talk",
    [
        "\nI hope these help!", "\nEnjoy!", "\n---\nThese five questions cover the document.", "\n**End of questions**",
        "\nNote: all answers are in the document.", "\nAll of these questions can be answered from the text.",
        "\nDo you want me to answer these?", "\n\nAnswers:\n1: A place.\n2: It says so.", "\n<|im_end|>", "\n```",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["{i}: {q}", "{roman}. {q}", "- {q}", "**Question {i}**\n{q}"])
def test_what_is_said_after_a_list_is_no_question(mark: str, talk: str) -> None:
    asked = ["What is it?", "Explain why it is.", "Who says so?"]
    reply = "\n".join(mark.format(i=i, roman="I" * i, q=q) for i, q in enumerate(asked, 1)) + talk
    assert numbered_items(reply, limit=5) == asked


def test_what_belongs_to_a_question_stays_with_it() -> None:
    choice = "Which of these is right?\nA) the first\nB) the second"
    code = "What does this print?\n```python\nprint(1)\n```"
    reply = f"1: {choice}\n2: {code}\n3: Who was it? And when?\nWhy?\n4: **Python**: what is new in it?"
    assert numbered_items(reply, limit=5) == [
        choice,
        code,
        "Who was it? And when?\nWhy?",
        "**Python**: what is new in it?",
    ]


@pytest.mark.parametrize(
    "reply",
    [
        "1: " * 20_000, "**Question 1**\n" * 20_000, "[" * 50_000, "- a?\n" * 20_000, "1. " + '"' * 50_000,
        "a?\n" * 20_000, "1: a?\nb?\n" + "c?\n" * 20_000, "1: a" + " " * 50_000 + "?", "**" * 20_000, "<a" * 20_000,
        "1: " + "?" * 50_000, '["' * 20_000, "{" * 50_000, "Answers:\n1: a\n" * 10_000,
    ],
)  # fmt: skip
def test_no_reply_takes_long(reply: str) -> None:
    begin = time.process_time()
    numbered_items(reply, limit=5)
    assert time.process_time() - begin < 2


def test_a_list_of_anything_but_questions_is_none() -> None:
    assert numbered_items("I need:\n- more text\n- a shorter task", limit=5) == []


def test_bold_words_inside_stay() -> None:
    assert (
        numbered_items("1. **Python 3.11**: what is new in it?\n2. Why?", limit=5)[0]
        == "**Python 3.11**: what is new in it?"
    )


def test_quotation_marks_inside_stay() -> None:
    assert numbered_items('1. "Why does "Vell" matter?"\n2. "A" or "B"', limit=5) == [
        'Why does "Vell" matter?',
        '"A" or "B"',
    ]


def test_chinese_lists_in_full_width_marks() -> None:
    assert numbered_items("1、这是什么？\n2、为什么？\n问题3：是谁？", limit=5) == ["这是什么？", "为什么？", "是谁？"]


def test_items_may_go_over_several_lines() -> None:
    reply = "1: Consider the code\nreturn 11: x\nand explain it.\n2: Why?"
    assert numbered_items(reply, limit=5) == ["Consider the code\nreturn 11: x\nand explain it.", "Why?"]


def test_only_the_number_that_is_due_starts_an_item() -> None:
    reply = "1: At 11: what happens?\n11: no item\n2: How much is 3.5?\n2: still the second"
    assert numbered_items(reply, limit=5) == [
        "At 11: what happens?\n11: no item",
        "How much is 3.5?\n2: still the second",
    ]


def test_numbers_with_decimals_and_times_start_no_item() -> None:
    assert numbered_items("1: Price?\n2.50 dollars\n2:30 pm", limit=5) == ["Price?\n2.50 dollars\n2:30 pm"]


def test_prose_gives_nothing_and_repeats_count_once() -> None:
    assert numbered_items("I cannot write questions about this.", limit=5) == []
    assert numbered_items("", limit=5) == []
    assert numbered_items("1: Why?\n2: Why?\n3: How?", limit=5) == ["Why?", "How?"]


@given(st.lists(LINE, min_size=1, max_size=9, unique=True), st.sampled_from([": ", ". ", ") ", "：", "、"]))
def test_every_list_we_ask_for_is_read_back(items: list[str], mark: str) -> None:
    reply = "\n".join(f"{number}{mark}{item}" for number, item in enumerate(items, 1))
    assert numbered_items(reply, limit=len(items)) == items


@given(st.text(max_size=300), st.integers(1, 8))
def test_any_text_gives_at_most_what_was_asked_for(reply: str, most: int) -> None:
    items = numbered_items(reply, limit=most)
    assert len(items) <= most
    assert all(item == item.strip() and item for item in items)
    assert all("\n\n" not in item for item in items)
