"""Rows written by a real model that other people made, in this process and behind another program's server."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.real_rows import Case, build

from longalign.base.files import read_jsonl
from longalign.core.text import words
from longalign.data.verify import Passages, answer_fault, question_fault

pytestmark = pytest.mark.slow

CASE = Case(documents=3)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The report and folder of a build with the model in this process."""
    folder = tmp_path_factory.mktemp("here")
    build(CASE, folder)
    return report_in(folder), folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The same through `transformers serve`, over HTTP."""
    folder = tmp_path_factory.mktemp("served")
    build(dataclasses.replace(CASE, served=True), folder)
    return report_in(folder), folder


def report_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "rows.report.json").read_text(encoding="utf-8"))
    return found


def outcomes(folder: Path) -> dict[str, tuple[str, str, str]]:
    """Document -> reason ("" where accepted), question, answer."""
    found = {
        row["document"]: ("", row["messages"][0]["content"].rpartition("\n\n")[2], row["messages"][1]["content"])
        for row in read_jsonl(folder / "rows.jsonl")
    }
    for row in read_jsonl(folder / "rows.rejected.jsonl"):
        if row["kind"] == "row":
            assert row["document"] not in found
            found[row["document"]] = (row["reason"], row["question"], row["answer"])
    return found


@pytest.mark.parametrize("way", ["here", "served"])
def test_every_candidate_is_accounted_for(way: str, request: pytest.FixtureRequest) -> None:
    report, folder = request.getfixturevalue(way)
    assert report["tried"] == CASE.documents == report["rows"] + sum(report["rejected_by_reason"].values())
    assert len(outcomes(folder)) == CASE.documents
    assert report["spend"]["calls"] == CASE.documents + report["by_stage"]["with questions"]
    assert min(report["spend"]["prompt_tokens"], report["spend"]["completion_tokens"]) > 0


@pytest.mark.parametrize("way", ["here", "served"])
def test_an_accepted_row_holds_its_document_and_a_supported_answer(way: str, request: pytest.FixtureRequest) -> None:
    report, folder = request.getfixturevalue(way)
    texts = {row["text"] for row in read_jsonl(folder / "documents.jsonl")}
    rows = list(read_jsonl(folder / "rows.jsonl"))
    assert len(rows) == report["rows"] >= 1
    for row in rows:
        text, _, question = row["messages"][0]["content"].rpartition("\n\n")
        answer = row["messages"][1]["content"]
        assert text in texts
        assert row["evidence"]
        assert all(text[found["start"] : found["end"]] == found["text"] for found in row["evidence"])
        assert (question_fault(question, "en"), answer_fault(answer, question, "en")) == (None, None)
        support, _ = Passages(text).support(answer, frozenset(words(question)))
        assert support >= report["settings"]["min_support"]


def test_both_ways_give_the_same_rows(here: tuple[Any, Path], served: tuple[Any, Path]) -> None:
    """Greedy, the weights in float32 on both sides: only the last bits differ, by what shares a batch."""
    assert outcomes(here[1]) == outcomes(served[1])
