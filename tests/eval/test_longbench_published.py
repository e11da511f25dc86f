"""LongBench v1 and v2 as published: figures of fixed answers, and whole runs over a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longalign.config import EvalSettings, LongBenchV1Settings, LongBenchV2Settings
from longalign.errors import DataError
from longalign.eval.evaluate import evaluate
from longalign.eval.longbench_metrics import METRICS, longbench_score
from longalign.eval.longbench_v2 import letter_of
from tests.eval.endpoint import serve

CLASSES = ["LOC", "Location", "Location: city", "Animal"]


@pytest.mark.parametrize(
    ("dataset", "answer", "accepted", "share"),
    [  # the published scorer's own figures
        ("qasper", "The Paris, of 1987", ["Paris"], 0.5),
        ("qasper", "paris", ["London", "a Paris."], 1.0),
        ("triviaqa", "\nParis\nLondon is next", ["London", "Paris"], 1.0),
        ("hotpotqa", "Paris\nLondon", ["Paris"], 2 / 3),
        ("multifieldqa_zh", "中国的首都是北京。", ["北京"], 1 / 3),
        ("gov_report", "the cat sat on the mat", ["the cat lay on the mat"], 0.8),
        ("gov_report", "", ["the cat"], 0.0),
        ("trec", "Animal", ["Animal"], 1.0),
        ("trec", "Location: city", ["Location: city"], 1.0),
        ("trec", "Animal or LOC", ["Animal"], 0.5),
        ("passage_retrieval_en", "Paragraph 12", ["Paragraph 12"], 1.0),
        ("passage_retrieval_en", "12 or 3", ["Paragraph 12"], 0.5),
        ("passage_retrieval_zh", "段落7", ["段落7"], 1.0),
        ("passage_count", "There are 5 of 7", ["5"], 0.5),
        ("passage_count", "none", ["5"], 0.0),
        ("lcc", "```python\nx = 1\n", ["x = 1"], 1.0),
        ("lcc", "return foo", ["return foo(bar)"], 0.8),
    ],
)
def test_answers_score_as_published(dataset: str, answer: str, accepted: list[str], share: float) -> None:
    assert longbench_score(dataset, answer, accepted, CLASSES) == pytest.approx(share, abs=1e-6)


def test_every_set_of_the_21_has_a_metric() -> None:
    assert len(METRICS) == 21


def longbench(place: Path) -> dict[str, Any]:
    rows = {
        "qasper": [{"_id": f"q{n}", "input": f"What is {n}?", "context": f"{{braces}} {n} is n{n}.",
                    "answers": [f"n{n}"], "all_classes": None, "length": 3000} for n in range(4)],
        "trec_e": [{"_id": f"t{n}", "input": "cow", "context": "text", "answers": ["Animal"],
                    "all_classes": CLASSES, "length": length} for n, length in enumerate((100, 5000, 9000))],
    }  # fmt: skip
    for name, listed in rows.items():
        text = "".join(json.dumps(row) + "\n" for row in listed)
        (place / f"{name}.jsonl").write_text(text, encoding="utf-8")
    prompts = {"qasper": "Read: {context}\n\nQuestion: {input}\nAnswer:", "trec": "{context}\n{input}"}
    (place / "dataset2prompt.json").write_text(json.dumps(prompts), encoding="utf-8")
    (place / "dataset2maxlen.json").write_text(json.dumps({"qasper": 128, "trec": 64}), encoding="utf-8")
    return {
        "cases": (str(place / "qasper.jsonl"), str(place / "trec_e.jsonl")),
        "prompts": str(place / "dataset2prompt.json"),
        "max_lengths": str(place / "dataset2maxlen.json"),
    }


def test_a_run_uses_longbenchs_prompts_caps_and_lengths(tmp_path: Path) -> None:
    settings = LongBenchV1Settings(**longbench(tmp_path))

    def reader(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        return "n2" if "Question" in prompt else "Animal"

    with serve(reader) as endpoint:
        found = evaluate(EvalSettings(model=f"openai:m@{endpoint.url}", longbench_v1=settings), tmp_path / "out")
        prompts = endpoint.prompts()
        caps = {body.get("max_tokens") or body.get("max_completion_tokens") for body in endpoint.seen}
    assert "Read: {braces} 2 is n2.\n\nQuestion: What is 2?\nAnswer:" in prompts
    assert caps == {128, 64}
    assert found["by_kind"]["qasper"]["mean"] == 0.25
    assert 0 <= found["by_kind"]["qasper"]["low"] < 0.25 < found["by_kind"]["qasper"]["high"] <= 1
    assert found["by_kind"]["trec_e"]["mean"] == 1.0
    assert found["macro"] == 0.625
    assert [part["questions"] for part in found["by_length"]["trec_e"].values()] == [1, 1, 1]
    assert "without" not in found["notes"][0]
    assert "trec_e" in found["notes"][0]


def test_a_file_that_is_no_set_of_longbench_is_refused(tmp_path: Path) -> None:
    settings = longbench(tmp_path)
    (tmp_path / "mine.jsonl").write_text("{}\n", encoding="utf-8")
    wanted = LongBenchV1Settings(**{**settings, "cases": (str(tmp_path / "mine.jsonl"),)})
    with pytest.raises(DataError, match=r"mine\.jsonl: no data set of LongBench; files are named as there: n"):
        evaluate(EvalSettings(model="offline", longbench_v1=wanted), tmp_path / "out")


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("The correct answer is (B).", "B"),
        ("The correct answer is **C**", "C"),
        ("The correct answer is: D", None),
        ("B", None),
        ("The correct answer is (A). No: The correct answer is (B).", "A"),
    ],
)
def test_a_choice_is_read_as_published(said: str, letter: str | None) -> None:
    assert letter_of(said) == letter


def choices(place: Path) -> str:
    rows = [
        {"_id": str(n), "question": f"Which is {n}?", "answer": "ABCD"[n % 4], "context": f"text {n}",
         "length": ("short", "medium", "long")[n % 3], "difficulty": ("easy", "hard")[n % 2], "domain": "Code",
         **{f"choice_{letter}": f"{letter}{n}" for letter in "ABCD"}} for n in range(12)
    ]  # fmt: skip
    (place / "data.json").write_text(json.dumps(rows), encoding="utf-8")
    return str(place / "data.json")


def test_four_choices_by_length_and_difficulty_with_and_without_the_text(tmp_path: Path) -> None:
    cases = (choices(tmp_path),)

    def always_a(body: dict[str, Any]) -> str:
        return "I think so. The correct answer is (A)" if "text 3" not in body["messages"][-1]["content"] else "A"

    with serve(always_a) as endpoint:
        model = f"openai:m@{endpoint.url}"
        wanted = LongBenchV2Settings(cases=cases)
        found = evaluate(EvalSettings(model=model, longbench_v2=wanted), tmp_path / "with")
        shown = len(endpoint.prompts())
        blind = LongBenchV2Settings(cases=cases, context=False)
        alone = evaluate(EvalSettings(model=model, longbench_v2=blind), tmp_path / "without")
        prompts = endpoint.prompts()
    assert (found["overall"]["right"], found["overall"]["questions"], found["no_letter"]) == (3, 12, 1)
    assert {name: row["questions"] for name, row in found["by_kind"].items()} == {"short": 4, "medium": 4, "long": 4}
    assert set(found["by_difficulty"]) == {"easy", "hard"}
    assert all("text" in prompt for prompt in prompts[:shown])
    assert not any("text 1" in prompt for prompt in prompts[shown:])
    assert alone["no_letter"] == 0


def test_a_question_without_four_choices_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('[{"question": "?", "answer": "A", "context": "x"}]', encoding="utf-8")
    wanted = LongBenchV2Settings(cases=(str(tmp_path / "data.json"),))
    with pytest.raises(DataError, match=r"data.json: case 1: field `choice_A` must be a text"):
        evaluate(EvalSettings(model="offline", longbench_v2=wanted), tmp_path / "out")
