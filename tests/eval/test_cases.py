"""LongBench-Chat, LongCite and LongBench files are read as they are; mistakes are named by file, case and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longalign.errors import DataError
from longalign.eval.builtin_cases import builtin_cases
from longalign.eval.cases import Case, document_rows, read_cases
from longalign.eval.judge_prompt import Example
from longalign.eval.mt_bench import turn_rows
from longalign.llm.alternatives import read_alternatives
from tests.makers.text import filler

SHOTS = [[{"answer": f"a{n}{k}", "score": k + 1} for k in range(3)] for n in range(2)]
CHAT = [
    {"idx": 1, "prompt": "A long text.\n\nWhat is it?", "query": "What is it?", "answer": "A text."},
    {"idx": 2, "prompt": "很长的文章。\n\n这是什么？", "query": "这是什么？", "answer": "文章。"},
]


def write(path: Path, value: Any) -> Path:
    text = "\n".join(json.dumps(row) for row in value) if path.suffix == ".jsonl" else json.dumps(value)
    path.write_text(text, encoding="utf-8")
    return path


def read(paths: list[Path], few_shots: Path | None = None) -> list[Case]:
    return read_cases(paths, document_rows(few_shots))


def test_longbench_chat(tmp_path: Path) -> None:
    cases = read([write(tmp_path / "test_cases.json", CHAT)], write(tmp_path / "few_shots.json", SHOTS))
    assert [(c.key, c.language, c.rubric, c.reference) for c in cases] == [
        ("1", "en", "chat", "A text."),
        ("2", "zh", "chat", "文章。"),
    ]
    assert cases[1].examples == (Example("a10", 1), Example("a11", 2), Example("a12", 3))


def test_examples_follow_idx_rather_than_the_order_of_the_file(tmp_path: Path) -> None:
    cases = read([write(tmp_path / "c.json", CHAT[::-1])], write(tmp_path / "f.json", SHOTS))
    assert cases[0].key == "2"
    assert cases[0].examples[0].answer == "a10"


def test_questions_over_one_document_share_its_name(tmp_path: Path) -> None:
    rows = [{"idx": n, "prompt": f"Doc.\n\nQ{n}?", "query": f"Q{n}?", "answer": "x"} for n in (1, 2)]
    rows.append({"idx": 3, "prompt": "Other.\n\nQ3?", "query": "Q3?", "answer": "x"})
    a, b, c = read([write(tmp_path / "c.json", rows)])
    assert a.document == b.document != c.document


def test_longcite_variant(tmp_path: Path) -> None:
    row = {
        "idx": 7,
        "dataset": "longbench-chat",
        "query": "Who?",
        "context": "Text.",
        "answer": ["Ann"],
        "few_shot_scores": [{"answer": "Bob", "score": 1}],
    }
    other = {"idx": 8, "dataset": "gov_report", "query": "Sum up.", "context": "Text.", "answer": ["S"]}
    chat, summary = read([write(tmp_path / "c.json", [row, other])])
    assert (chat.prompt, chat.rubric, chat.examples) == ("Text.\n\nWho?", "chat", (Example("Bob", 1),))
    assert summary.rubric == "summary"


def test_longbench(tmp_path: Path) -> None:
    rows = [
        {
            "input": "Who?",
            "context": "Text.",
            "answers": ["Ann", "A."],
            "dataset": "hotpotqa",
            "language": "en",
            "_id": "x",
        },
        {"input": "", "context": "长文。", "answers": ["要点"], "dataset": "vcsum", "language": "zh", "_id": "y"},
    ]
    question, summary = read([write(tmp_path / "c.jsonl", rows)])
    assert (question.key, question.rubric, read_alternatives(question.reference)) == ("x", "qa", ["Ann", "A."])
    assert (summary.rubric, summary.query) == ("summary", "请总结上文的内容。")
    assert summary.prompt == "长文。\n\n请总结上文的内容。"


def test_zero_is_an_id_like_others(tmp_path: Path) -> None:
    rows = [{"idx": n, "prompt": f"Doc\nQ{n}?", "query": f"Q{n}?", "answer": "north"} for n in (0, 1)]
    assert [case.key for case in read([write(tmp_path / "c.json", rows)])] == ["0", "1"]
    turns = [{"question_id": 0, "category": "writing", "turns": ["Hi", "Bye"]}]
    assert [case.key for case in read_cases([write(tmp_path / "q.jsonl", turns)], turn_rows())] == ["0.1", "0.2"]
    with pytest.raises(DataError, match="numbered from 1; none for `idx` 0"):
        read([tmp_path / "c.json"], write(tmp_path / "f.json", SHOTS))


def test_a_line_separator_within_a_text_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    rows = [
        {"input": f"Where{mark}?", "context": "Text.", "answers": ["A"], "_id": mark} for mark in "\u2028\u2029\x85"
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert [case.query for case in read([path])] == [row["input"] for row in rows]


@pytest.mark.parametrize("name", ["trec", "samsum", "passage_retrieval_zh", "lcc", "passage_count_e", "triviaqa"])
def test_sets_with_a_metric_of_their_own_are_not_judged(name: str, tmp_path: Path) -> None:
    row = {"input": "Q", "context": "Text.", "answers": ["A"], "dataset": name, "language": "en", "_id": "x"}
    path = write(tmp_path / "c.jsonl", [row])
    with pytest.raises(DataError, match=f"`{name}` by a metric of its own; the judged sets are .*hotpotqa"):
        read([path])
    assert read_cases([path], document_rows(rubric="qa"))[0].rubric == "qa"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "at least one"),
        ([{"idx": 1, "prompt": "p", "answer": "a"}], r"case 1: field `query`"),
        ([{"idx": 1, "query": "q", "answer": "a"}], r"case 1: neither `prompt` nor `context`"),
        ([{"idx": 1, "prompt": "p", "query": "q"}], r"case 1: field `answer`"),
        ([CHAT[0], CHAT[0]], r"key '1' occurs more than once"),
        (["text"], r"case 1 is not an object"),
        ([{**CHAT[0], "examples": [{"answer": "a", "score": 12}]}], r"score` \(1-10, whole\)"),
        ([{**CHAT[0], "rubric": "stars"}], r"'stars' is unknown"),
    ],
)
def test_mistakes_are_named(rows: Any, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=complaint):
        read([write(tmp_path / "c.json", rows)])


def test_too_few_examples_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 lists of examples, numbered from 1; none for `idx` 2"):
        read([write(tmp_path / "c.json", CHAT)], write(tmp_path / "f.json", SHOTS[:1]))
    (tmp_path / "broken.json").write_text("[{")
    with pytest.raises(DataError, match=r"broken\.json: not valid JSON"):
        read([tmp_path / "broken.json"])
    with pytest.raises(DataError, match="cannot be read"):
        read([tmp_path / "none.json"])


def test_built_in_cases_are_answerable_from_their_document_and_say_what_they_are() -> None:
    texts = [filler(300, 1000 * n) for n in range(3)]
    cases = builtin_cases(texts, count=6, tokens=400, seed=0)
    assert len(cases) == 6
    assert len({case.document for case in cases}) == 6
    for case in cases:
        assert case.prompt.endswith(f"\n\n{case.query}")
        assert "offline stand-in" in case.dataset
        told = case.reference.split(": ", 1)[-1]
        assert " ".join(told.split()) in " ".join(case.prompt.split())
    assert cases[:3] == builtin_cases(texts, count=3, tokens=400, seed=0)[:3]


TURNS = [
    {"question_id": 81, "category": "writing", "turns": ["Write a line.", "Now shorter."]},
    {"question_id": 111, "category": "math", "turns": ["What is 2 + 2?", "And doubled?"], "reference": ["4", "8"]},
]


def test_mt_bench_questions_become_one_case_a_turn(tmp_path: Path) -> None:
    cases = read_cases([write(tmp_path / "question.jsonl", TURNS)], turn_rows())
    assert [(c.key, c.follows, c.category, c.dataset, c.reference) for c in cases] == [
        ("81.1", None, "writing", "turn 1", ""),
        ("81.2", "81.1", "writing", "turn 2", ""),
        ("111.1", None, "math", "turn 1", "4"),
        ("111.2", "111.1", "math", "turn 2", "8"),
    ]
    assert {c.rubric for c in cases} == {"dialogue"}
    assert cases[0].document == cases[1].document != cases[2].document  # a conversation is one draw, not two


def test_mt_bench_reference_answers_come_from_their_own_file(tmp_path: Path) -> None:
    answers = [{"question_id": 81, "choices": [{"index": 0, "turns": ["A line.", "Line."]}]}]
    references = write(tmp_path / "gpt-4.jsonl", answers)
    write(tmp_path / "question.jsonl", TURNS)
    cases = read_cases([tmp_path / "question.jsonl"], turn_rows(references))
    assert [c.reference for c in cases] == ["A line.", "Line.", "4", "8"]
    with pytest.raises(DataError, match=r"r\.jsonl: row 1 has no `question_id`"):
        turn_rows(write(tmp_path / "r.jsonl", [{"turns": []}]))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"question_id": 1, "turns": []}, "`turns` must be a list of texts"),
        ({"turns": ["a", "b"]}, "`question_id` is missing"),
        ({"question_id": 1, "turns": ["a"], "reference": "b"}, "`reference` must be a list"),
    ],
)
def test_a_broken_mt_bench_row_is_named(tmp_path: Path, row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DataError, match=f"case 1: field {complaint}"):
        read_cases([write(tmp_path / "q.jsonl", [row])], turn_rows())


def test_keys_of_several_files_do_not_collide(tmp_path: Path) -> None:
    one, two = (
        {"input": "Who?", "context": "Text.", "answers": ["Ann"], "dataset": d} for d in ("qasper", "gov_report")
    )
    files = [write(tmp_path / "qasper.jsonl", [one]), write(tmp_path / "gov_report.jsonl", [two])]
    cases = read(files)
    assert [(c.key, c.category) for c in cases] == [("qasper/1", "single-document QA"), ("gov_report/1", "summary")]
