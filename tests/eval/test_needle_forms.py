"""Forms of needles: a reader that finds the sentence is right, one that lists everything is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import random_for
from longalign.config import EvalSettings, NeedleSettings
from longalign.errors import ConfigError, DataError
from longalign.eval.evaluate import evaluate
from longalign.eval.needle_forms import draw_needles, needles_of, score_needle
from tests.eval.endpoint import serve

CLASSIC = [
    {
        "needle": "The best sandwich in Delft is sold behind the old mill.",
        "question": "Where is it?",
        "answer": "old mill",
    },
    {"needle": "The guard sleeps at noon.", "question": "When does the guard sleep?", "answer": ["noon", "12 o'clock"]},
]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@given(st.integers(0, 10**6), st.sampled_from(["number", "uuid", "register"]), st.sampled_from(["en", "zh"]))
def test_the_value_alone_is_right_and_all_values_together_are_not(seed: int, form: Any, language: Any) -> None:
    needle, *others = draw_needles(NeedleSettings(form=form, language=language), random_for(seed, "n"))
    assert needle.name in needle.question
    assert needle.value in needle.sentence
    assert score_needle(needle.value, needle, others).value
    assert score_needle(f"It is {needle.value}.", needle, others).value
    assert score_needle(needle.sentence, needle, others).exact
    assert not score_needle(" ".join(each.sentence for each in (needle, *others)), needle, others).value
    assert not score_needle(others[0].sentence, needle, others).value
    assert not score_needle("", needle, others).value


@pytest.mark.parametrize("form", ["number", "uuid"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_hundreds_of_distractors_are_all_different(form: Any, language: Any) -> None:
    drawn = draw_needles(NeedleSettings(form=form, language=language, distractors=500), random_for(0, "n"))
    assert len({needle.sentence for needle in drawn}) == len({needle.value for needle in drawn}) == 501


def test_a_file_of_needles_gives_the_classic_test(tmp_path: Path, documents: Path) -> None:
    """Three distractors are asked for and one is there: the file has two needles."""
    file = write(tmp_path / "needles.jsonl", CLASSIC)

    def reader(body: dict[str, Any]) -> str:
        text, question = body["messages"][-1]["content"].rsplit("\n\n", 1)
        return next(row["answer"] if isinstance(row["answer"], str) else "At 12 o'clock." for row in CLASSIC
                    if row["question"] == question and row["needle"] in text)  # fmt: skip

    settings = NeedleSettings(
        form="sentence", needle_file=file, lengths=(300,), depths=3, needles=3, haystack=(str(documents),)
    )
    with serve(reader) as endpoint:
        found = evaluate(EvalSettings(model=f"openai:m@{endpoint.url}", needle=settings), tmp_path / "out")
    assert found["overall"]["accuracy"] == 1.0
    assert found["overall"]["name_accuracy"] is None
    assert found["form"] == "sentence"


def test_a_number_is_found_over_an_endpoint_and_the_row_says_where(tmp_path: Path, documents: Path) -> None:
    def reader(body: dict[str, Any]) -> str:
        text, question = body["messages"][-1]["content"].rsplit("\n\n", 1)
        city = re.search(r"number for (.+?) mentioned", question)
        assert city
        found = re.search(rf"number for {city[1]} is (\d+)\.", text)
        return found[1] if found else "nowhere"

    settings = NeedleSettings(lengths=(300, 900), depths=2, needles=2, haystack=(str(documents),), distractors=8)
    with serve(reader) as endpoint:
        found = evaluate(EvalSettings(model=f"openai:m@{endpoint.url}", needle=settings), tmp_path)
    assert found["form"] == "number"
    assert found["overall"]["accuracy"] == 1.0
    assert found["cells"]["900"]["1"]["right"] == 2


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"needle": "A.", "question": "B?"}], r"row 1: field `answer` must be a text with at least one word"),
        ([CLASSIC[0], {"needle": 3, "question": "B?", "answer": "c"}], r"row 2: field `needle` must be a text"),
        (["text"], r"row 1: field `needle`"),
    ],
)
def test_a_broken_file_of_needles_is_named_with_its_row(tmp_path: Path, rows: list[Any], complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        needles_of(write(tmp_path / "needles.jsonl", rows))


def test_a_form_says_what_it_needs(tmp_path: Path, documents: Path) -> None:
    place = {"haystack": (str(documents),)}
    with pytest.raises(ConfigError, match="form `sentence` needs needle_file"):
        evaluate(EvalSettings(model="offline", needle=NeedleSettings(form="sentence", **place)), tmp_path / "a")
    with pytest.raises(ConfigError, match="forced_tokens reads names and values of form `register`"):
        evaluate(EvalSettings(model="offline", needle=NeedleSettings(forced_tokens=True, **place)), tmp_path / "b")
