"""Readers of known behaviour get the figures they deserve, through a real server and the command line's code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longalign.base.files import read_jsonl
from longalign.config import EvalSettings, SyntheticSettings
from longalign.eval.evaluate import evaluate
from longalign.eval.synthetic.kinds import KINDS
from tests.eval.endpoint import serve
from tests.oracles.synthetic_reader import answer

SPOKEN = ("single", "multi_key", "one_step", "no_shared_words")
"""Kinds whose whole answer is one sentence."""


def measure(out: Path, documents: Path, reader: Callable[[str], str | int], **changes: Any) -> dict[str, Any]:
    settings = {"lengths": (700, 1500), "questions": 4, "haystack": (str(documents),), **changes}
    with serve(lambda body: reader(body["messages"][-1]["content"])) as endpoint:
        model = EvalSettings(model=f"openai:m@{endpoint.url}", synthetic=SyntheticSettings(**settings))
        evaluate(model, out)
    results: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return results


def cut(prompt: str, start: float, end: float) -> str:
    """A prompt of which only a part of the text can be read."""
    text, question = prompt.rsplit("\n\n", 1)
    return f"{text[int(start * len(text)) : int(end * len(text))]}\n\n{question}"


def test_a_perfect_reader_is_perfect_in_every_kind(tmp_path: Path, documents: Path) -> None:
    results = measure(tmp_path, documents, answer)
    assert set(results["by_kind"]) == set(KINDS)
    assert {kind["mean"] for kind in results["by_kind"].values()} == {1.0}
    assert results["effective_window"]["tokens"] == 1500
    assert results["overall"]["questions"] == 4 * 2 * len(KINDS)


def test_readers_that_do_not_read_find_nothing(tmp_path: Path, documents: Path) -> None:
    for name, reader in {
        "silent": lambda prompt: "",
        "refusing": lambda prompt: "I cannot help with that.",
        "random": lambda prompt: "1234567, ABCD, Ulan Bator",
    }.items():
        results = measure(tmp_path / name, documents, reader, questions=1)
        assert results["overall"]["mean"] == 0, name
        assert results["effective_window"]["tokens"] is None
        assert results["effective_window"]["of_own"] is None


def test_intervals_of_shares_stay_between_0_and_1(tmp_path: Path, documents: Path) -> None:
    asked: list[str] = []

    def once(prompt: str) -> str:
        asked.append(prompt)
        return answer(prompt) if len(asked) == 1 else "nothing"

    results = measure(tmp_path, documents, once, tasks=("single",), lengths=(700,), questions=6)
    assert results["compared"]["scale"] == [0, 1]
    assert 0 <= results["overall"]["low"] < results["overall"]["mean"] < results["overall"]["high"] <= 1


def test_an_echo_is_right_nowhere(tmp_path: Path, documents: Path) -> None:
    results = measure(tmp_path, documents, lambda prompt: prompt)
    assert results["overall"]["right"] == 0
    assert results["overall"]["mean"] < 0.45


def test_a_reader_of_the_end_finds_what_stands_there_and_nothing_else(tmp_path: Path, documents: Path) -> None:
    results = measure(
        tmp_path, documents, lambda prompt: answer(cut(prompt, 0.6, 1.0)), tasks=SPOKEN, questions=30, lengths=(1500,)
    )
    rows = read_jsonl(tmp_path / "scores.jsonl")
    near = [row for row in rows if row["answer_tokens"][0] >= 0.62 * row["prompt_tokens"]]
    far = [row for row in rows if row["answer_tokens"][0] <= 0.55 * row["prompt_tokens"]]
    assert len(near) > 30
    assert len(far) > 50
    assert all(row["score"]["right"] for row in near)
    assert not any(row["score"]["right"] for row in far)
    assert 0.25 < results["overall"]["mean"] < 0.5


def test_a_reader_of_the_first_words_loses_its_window_where_they_end(tmp_path: Path, documents: Path) -> None:
    def first_4000_characters(prompt: str) -> str:
        text, question = prompt.rsplit("\n\n", 1)
        return answer(f"{text[:4000]}\n\n{question}")

    results = measure(
        tmp_path,
        documents,
        first_4000_characters,
        tasks=("multi_key", "one_step"),
        lengths=(500, 900, 3000),
        questions=12,
    )
    assert results["effective_window"]["tokens"] == 900
    assert results["by_length"]["900"]["mean"] == 1.0
    assert results["by_length"]["3000"]["mean"] < 0.6


def test_questions_that_always_fail_are_counted_and_the_others_scored(tmp_path: Path, documents: Path) -> None:
    seen: list[str] = []

    def failing(prompt: str) -> str | int:
        if prompt not in seen:
            seen.append(prompt)
        return 400 if seen.index(prompt) % 3 == 0 else answer(prompt)

    results = measure(tmp_path, documents, failing, tasks=SPOKEN)
    assert results["overall"]["failed"] == 11
    assert results["overall"]["scored"] == 21
    assert results["overall"]["mean"] == 1.0


def test_the_same_settings_ask_the_same_questions_and_nothing_twice(tmp_path: Path, documents: Path) -> None:
    asked: list[str] = []

    def reader(prompt: str) -> str:
        asked.append(prompt)
        return answer(prompt)

    measure(tmp_path / "a", documents, reader, tasks=SPOKEN)
    first = list(asked)
    measure(tmp_path / "a", documents, reader, tasks=SPOKEN)
    assert asked == first
    measure(tmp_path / "b", documents, reader, tasks=SPOKEN)
    assert sorted(asked[len(first) :]) == sorted(first)


@pytest.mark.parametrize("language", ["zh"])
def test_chinese_questions_stand_in_chinese_text(tmp_path: Path, language: Any) -> None:
    with serve(lambda body: answer(body["messages"][-1]["content"])) as endpoint:
        settings = SyntheticSettings(lengths=(800,), questions=2, language=language)
        evaluate(EvalSettings(model=f"openai:m@{endpoint.url}", synthetic=settings), tmp_path)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {kind["mean"] for kind in results["by_kind"].values()} == {1.0}
