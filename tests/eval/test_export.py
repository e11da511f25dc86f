"""Exports hold every question and figure, and the other tools read them where they are installed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from longalign.base.files import read_jsonl
from longalign.config import EvalSettings, NeedleSettings
from longalign.errors import ConfigError, RunError
from longalign.eval.evaluate import evaluate
from longalign.eval.export import export
from tests.eval.endpoint import serve


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, documents: Path) -> Path:
    """Eight questions, of which one has no answer and one a line break and a comma in it."""
    out = tmp_path_factory.mktemp("export") / "needle"
    asked: list[str] = []

    def reader(body: dict[str, Any]) -> str | int:
        asked.append(body["messages"][-1]["content"])
        return 400 if len(asked) == 3 else ('a, "b"\nc' if len(asked) == 2 else "1234567")

    settings = NeedleSettings(lengths=(300, 400), depths=2, needles=2, haystack=(str(documents),))
    with serve(reader) as endpoint:
        evaluate(EvalSettings(model=f"openai:m@{endpoint.url}", concurrency=1, needle=settings), out)
    return out


def test_csv_and_parquet_hold_every_row_and_field(finished: Path, tmp_path: Path) -> None:
    export(finished, "csv", tmp_path / "rows.csv")
    export(finished, "parquet", tmp_path / "rows.parquet")
    rows = read_jsonl(finished / "scores.jsonl")
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        read = list(csv.DictReader(stream))
    table = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["key"] for row in read] == [row["key"] for row in table] == [row["key"] for row in rows]
    assert [row["answer"] for row in table] == [row["answer"] for row in rows]
    assert [row["answer"] or None for row in read] == [row["answer"] for row in rows]
    assert [row["score.value"] for row in table] == [row["score"] and row["score"]["value"] for row in rows]


def test_inspects_log_has_its_required_parts_and_counts_what_is_unscored(finished: Path, tmp_path: Path) -> None:
    export(finished, "inspect", tmp_path / "log.json")
    log = json.loads((tmp_path / "log.json").read_text(encoding="utf-8"))
    assert {"created", "task", "dataset", "model", "config"} <= log["eval"].keys()
    assert log["results"]["scores"][0]["unscored_samples"] == 1
    assert len(log["samples"]) == 8
    assert sum(not sample["scores"] for sample in log["samples"]) == 1


def test_inspect_reads_the_log(finished: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("inspect_ai.log", reason="inspect_ai is not installed")
    export(finished, "inspect", tmp_path / "log.json")
    log = reader.read_eval_log(str(tmp_path / "log.json"))
    assert (log.status, len(log.samples), log.results.total_samples) == ("success", 8, 8)


def test_the_harness_makes_a_table_of_its_results(finished: Path, tmp_path: Path) -> None:
    export(finished, "lm-eval", tmp_path / "results.json")
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert set(results["results"]) == {"longalign_needle", "longalign_needle_300", "longalign_needle_400"}
    assert results["n-samples"]["longalign_needle"] == {"original": 8, "effective": 7}
    harness = pytest.importorskip("lm_eval.utils", reason="lm-eval is not installed")
    assert "longalign_needle_300" in harness.make_table(results)


def test_mistakes_are_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no form `parqet` \(did you mean `parquet`\?\)"):
        export(finished, "parqet", tmp_path / "x")
    with pytest.raises(RunError, match=r"no results\.json here"):
        export(tmp_path, "csv", tmp_path / "x")
