"""The judge's prompt holds what it should, in an order without bias; verdicts are read strictly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.errors import DataError
from longalign.eval.judge_prompt import SCALES, Example, judge_prompt, rubric, shuffled
from longalign.eval.verdict import read_rating
from longalign.llm.base import Request, complete_all
from longalign.llm.open import open_model

CHAT = rubric("chat")
EXAMPLES = [Example("first answer", 9), Example("second answer", 4), Example("third answer", 1)]
PUBLIC_FORM = (
    "Judge.\n[Question]\n{}\n[Reference]\n{}\n" + "[Answer]\n{}\nRating: [[{}]]\n" * 3 + "[Answer]\n{}\nRating: "
)


@pytest.mark.parametrize("name", list(SCALES))
def test_prompts_hold_question_reference_examples_and_answer_in_order(name: str) -> None:
    prompt = judge_prompt(rubric(name), "the query", "the ref", "the answer", EXAMPLES)  # type: ignore[arg-type]
    places = [
        prompt.index(part)
        for part in ("the query", "the ref\n", "first answer", "second answer", "third answer", "the answer\n")
    ]
    assert places == sorted(places)
    assert '<example rating="[[4]]">\nsecond answer\n</example>' in prompt
    bare = judge_prompt(rubric(name), "q", "r", "a")  # type: ignore[arg-type]
    assert "<example" not in bare
    assert "{{" not in bare


@given(st.text(alphabet="{}ab[]questionreferanswr", max_size=40))
def test_braces_and_slot_names_in_texts_stay_text(text: str) -> None:
    assert f"<answer>\n{text}\n</answer>" in judge_prompt(CHAT, "q", "r", text)
    assert f"<reference>\n{{{{answer}}}}{text}\n</reference>" in judge_prompt(CHAT, "q", "{{answer}}" + text, "a")


def test_the_public_template_is_filled_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "prompt_fs.txt"
    path.write_text(PUBLIC_FORM, encoding="utf-8")
    own = rubric("chat", path)
    prompt = judge_prompt(own, "Q {}", "R", "A {0}", EXAMPLES)
    assert prompt == (
        "Judge.\n[Question]\nQ {}\n[Reference]\nR\n[Answer]\nfirst answer\nRating: [[9]]\n"
        "[Answer]\nsecond answer\nRating: [[4]]\n[Answer]\nthird answer\nRating: [[1]]\n[Answer]\nA {0}\nRating: "
    )
    assert own.prompt_hash != CHAT.prompt_hash
    with pytest.raises(DataError, match="room for 3 examples and the case has 1"):
        judge_prompt(own, "q", "r", "a", EXAMPLES[:1])


def test_a_template_without_the_needed_slots_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text("Rate {} against {}")
    with pytest.raises(DataError, match=r"bad\.txt.*found 2"):
        rubric("chat", path)
    with pytest.raises(DataError, match="cannot be read"):
        rubric("chat", tmp_path / "none.txt")


def test_every_order_of_the_examples_is_used_and_is_reproducible() -> None:
    orders = Counter(tuple(e.score for e in shuffled(EXAMPLES, 0, f"case {n}", 0)) for n in range(600))
    assert len(orders) == 6
    assert min(orders.values()) > 60
    assert shuffled(EXAMPLES, 0, "case 1", 1) == shuffled(EXAMPLES, 0, "case 1", 1)
    assert any(shuffled(EXAMPLES, 0, f"{n}", 0) != shuffled(EXAMPLES, 0, f"{n}", 1) for n in range(5))
    last_is_lowest = sum(count for order, count in orders.items() if order[-1] == 1) / 600
    assert last_is_lowest == pytest.approx(1 / 3, abs=0.08)


@pytest.mark.parametrize("name", list(SCALES))
def test_the_offline_judge_reads_these_prompts_and_keeps_to_their_scale(name: str) -> None:
    scale = rubric(name)  # type: ignore[arg-type]
    judge = open_model("offline-judge")
    prompts = [
        judge_prompt(scale, "q?", "The river runs north.", answer)
        for answer in ("The river runs north.", "No idea at all", "The river is long.")
    ]
    outcomes = complete_all(judge, [Request(messages=({"role": "user", "content": p},)) for p in prompts])
    right, wrong, partly = (read_rating(outcome.text, (scale.low, scale.high)) for outcome in outcomes)
    assert (right, wrong) == (scale.high, scale.low)
    assert partly is not None
    assert scale.low < partly < scale.high
    assert "offline" in judge.name
