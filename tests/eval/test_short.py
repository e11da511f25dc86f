"""Short skills: held-out questions with one right answer each, scored exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import read_jsonl
from longalign.bundled.register import find_facts, split_of
from longalign.bundled.skills import SKILLS, short_rows
from longalign.config import EvalSettings, ShortSettings
from longalign.errors import DataError
from longalign.eval.evaluate import evaluate
from longalign.eval.short import normalise
from tests.eval.endpoint import serve


def solve(kind: str, question: str) -> str:
    """Another way to the answer than the generator's."""
    if kind == "retrieve":
        text, asked = question.rsplit("\n\n", 1)
        return next(fact.sentence for fact in find_facts(text) if fact.name in asked)
    chinese = not question.isascii()
    line = question.replace("？", ": ").replace("：", ": ").replace("? ", ": ").split(": ", 1)[1].split()
    before = question.split(" ")
    if kind == "contains":
        word = before[1] if chinese else before[4].rstrip("?")
        yes, no = ("有", "没有") if chinese else ("yes", "no")
        return yes if word in line else no
    words = {
        "copy": lambda: " ".join(line),
        "first_word": lambda: line[0],
        "last_word": lambda: line[-1],
        "next_word": lambda: line[line.index(before[1] if chinese else before[4]) + 1],
        "swap": lambda: f"{line[1]} {line[0]}",
    }[kind]()
    return (CHINESE if chinese else ENGLISH)[kind].format(words)


ENGLISH = {
    "copy": "Line: {}.",
    "first_word": "First word: {}.",
    "last_word": "Last word: {}.",
    "next_word": "Next word: {}.",
    "swap": "Swapped: {}.",
}
CHINESE = {
    "copy": "这一行： {}。",
    "first_word": "第一个词： {}。",
    "last_word": "最后一个词： {}。",
    "next_word": "下一个词： {}。",
    "swap": "交换后： {}。",
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_kind_has_the_one_right_answer(language: Any) -> None:
    for row in short_rows(140, seed=3, split="heldout", language=language):
        assert row["messages"][1]["content"] == solve(row["task"], row["messages"][0]["content"])


@given(st.integers(0, 1000), st.integers(0, 1000), st.sampled_from(["en", "zh"]))
def test_no_test_question_is_ever_a_training_question(a: int, b: int, language: Any) -> None:
    train = {row["messages"][0]["content"] for row in short_rows(21, seed=a, split="train", language=language)}
    test = {row["messages"][0]["content"] for row in short_rows(21, seed=b, split="heldout", language=language)}
    assert not train & test
    assert {split_of(question) for question in train} == {"train"}


def test_rows_depend_on_seed_and_number_only_and_kinds_take_turns() -> None:
    many, few = list(short_rows(50, seed=1, split="train")), list(short_rows(20, seed=1, split="train"))
    assert many[:20] == few
    assert many[:20] != list(short_rows(20, seed=2, split="train"))
    assert [row["task"] for row in many[:7]] == list(SKILLS)
    assert sum(row["messages"][1]["content"] == "yes" for row in short_rows(700, seed=0, split="train")) in range(
        30, 70
    )


@pytest.mark.parametrize(
    ("said", "wanted", "same"),
    [("Amber  crane.", "amber crane", True), ("yes", "Yes!", True), ("no", "yes", False), ("a b", "b a", False)],
)
def test_case_spaces_and_final_stops_do_not_matter(said: str, wanted: str, same: bool) -> None:
    assert (normalise(said) == normalise(wanted)) is same


def test_a_perfect_and_a_talkative_model(tmp_path: Path) -> None:
    answers = {
        row["messages"][0]["content"]: row["messages"][1]["content"] for row in short_rows(42, seed=0, split="heldout")
    }
    with serve(lambda body: answers[body["messages"][-1]["content"]]) as endpoint:
        settings = EvalSettings(model=endpoint.spec, short=ShortSettings(questions=42))
        got = evaluate(settings, tmp_path / "right")
    assert (got["overall"]["accuracy"], got["overall"]["questions"]) == (1.0, 42)
    assert {kind: row["questions"] for kind, row in got["by_kind"].items()} == dict.fromkeys(SKILLS, 6)
    with serve(lambda body: f"It is: {answers[body['messages'][-1]['content']]} I think") as endpoint:
        got = evaluate(EvalSettings(model=endpoint.spec, short=ShortSettings(questions=42)), tmp_path / "talk")
    assert (got["overall"]["accuracy"], got["overall"]["contains_accuracy"]) == (0.0, 1.0)


def test_failed_questions_stand_beside_the_share(tmp_path: Path) -> None:
    with serve(lambda body: 400 if "Swap" in body["messages"][-1]["content"] else "yes") as endpoint:
        got = evaluate(EvalSettings(model=endpoint.spec, short=ShortSettings(questions=14)), tmp_path)
    swap = got["by_kind"]["swap"]
    assert (swap["questions"], swap["failed"], swap["accuracy"], swap["low"]) == (2, 2, None, None)
    assert (got["overall"]["scored"], got["overall"]["failed"]) == (12, 2)
    assert sum(row["score"] is None for row in read_jsonl(tmp_path / "scores.jsonl")) == 2


def test_rows_of_ones_own_are_asked_with_their_history(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    talk = [("user", "hi"), ("assistant", "hello"), ("user", "two and two?"), ("assistant", "Four")]
    messages = [{"role": role, "content": text} for role, text in talk]
    rows.write_text(json.dumps({"messages": messages, "task": "sums"}) + "\n")
    with serve(lambda body: "four." if len(body["messages"]) == 3 else "lost") as endpoint:
        got = evaluate(EvalSettings(model=endpoint.spec, short=ShortSettings(rows=str(rows))), tmp_path / "out")
    assert got["by_kind"]["sums"]["accuracy"] == 1.0


def test_rows_without_a_reference_are_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("")
    with serve(lambda body: "x") as endpoint, pytest.raises(DataError, match=r"rows\.jsonl"):
        evaluate(EvalSettings(model=endpoint.spec, short=ShortSettings(rows=str(rows))), tmp_path / "out")


def test_of_several_right_answers_the_best_match_counts(tmp_path: Path) -> None:
    said = {"a": "Northwards.", "b": "It runs to the north", "c": "south"}
    rows = tmp_path / "rows.jsonl"
    with rows.open("w", encoding="utf-8") as stream:
        for name in said:
            messages = [{"role": "user", "content": name}, {"role": "assistant", "content": "north"}]
            row = {"id": name, "messages": messages, "answers": ["northwards", "to the north"]}
            stream.write(json.dumps(row) + "\n")
    with serve(lambda body: said[body["messages"][-1]["content"]]) as endpoint:
        got = evaluate(EvalSettings(model=endpoint.spec, short=ShortSettings(rows=str(rows))), tmp_path / "out")
    assert (got["overall"]["right"], got["overall"]["contains_accuracy"]) == (1, pytest.approx(2 / 3, abs=1e-6))
    rows.write_text(json.dumps({"messages": messages, "answers": "north"}), encoding="utf-8")
    with pytest.raises(DataError, match="field `answers` must be a list of texts"):
        evaluate(EvalSettings(model="offline", short=ShortSettings(rows=str(rows))), tmp_path / "other")
