"""Result files of earlier versions stay readable; a newer one says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from longalign.base.files import read_jsonl
from longalign.config import EvalSettings
from longalign.errors import RunError
from longalign.eval.compare import compare
from longalign.eval.evaluate import evaluate
from longalign.eval.results import SCHEMA, read_results
from longalign.report.page import report
from tests.eval.endpoint import serve


def settings(documents: Path, **changes: Any) -> EvalSettings:
    chat = {"questions": 2, "case_tokens": 300, "documents": [str(documents)]}
    return EvalSettings.model_validate({"model": "offline", "short": {"questions": 7}, "chat": chat} | changes)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def as_written_before(folder: Path, name: str) -> None:
    """Rewrite a finished task as versions without schema, title and a task's own name left it.

    Judged ones stay at the version of today's scoring: those of an earlier one are scored anew.
    """
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    older = {key: value for key, value in results.items() if key not in ("schema", "title", "compared")}
    older["task"] = name
    (folder / "results.json").write_text(json.dumps(older), encoding="utf-8")
    manifest = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
    own = manifest["settings"]
    if "longbench_chat" in own:
        own["chat"] = own.pop("longbench_chat")
    own.pop("tasks")
    left_out = ("schema", "version") if manifest["version"] == 1 else ("schema",)
    kept = {key: value for key, value in manifest.items() if key not in left_out}
    (folder / "stage.json").write_text(json.dumps(kept | {"stage": name, "summary": older}), encoding="utf-8")


@pytest.fixture
def older(documents: Path, tmp_path: Path) -> Path:
    """A finished evaluation of an earlier version: `short` and `chat`."""
    evaluate(settings(documents), tmp_path / "older")
    (tmp_path / "older" / "longbench_chat").rename(tmp_path / "older" / "chat")
    as_written_before(tmp_path / "older" / "chat", "chat")
    as_written_before(tmp_path / "older" / "short", "short")
    return tmp_path / "older"


def test_finished_work_of_an_earlier_version_is_not_done_again(older: Path, documents: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in older.rglob("*.jsonl")}
    got = evaluate(settings(documents), older)
    assert sorted(got) == ["longbench_chat", "short", "text"]
    assert {path: path.stat().st_mtime_ns for path in older.rglob("*.jsonl")} == before
    assert not (older / "longbench_chat").exists()
    assert not list(older.rglob("superseded"))


def test_results_of_an_earlier_version_are_compared_and_shown(older: Path, documents: Path, tmp_path: Path) -> None:
    evaluate(settings(documents, label="new"), tmp_path / "new")
    for before, after in (("chat", "longbench_chat"), ("short", "short")):
        got = compare(older / before, tmp_path / "new" / after)
        assert got["groups"]["all"]["ties"] == got["groups"]["all"]["n"] > 0
        assert got["left_out"] == 0
        same = compare(tmp_path / "new" / after, tmp_path / "new" / after)
        assert got["groups"] == same["groups"]
    report([older, tmp_path / "new"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<h3>LongBench-Chat and its like</h3>") == 1
    assert '<section id="tasks">' not in page


def test_a_newer_file_says_what_to_do(documents: Path, tmp_path: Path) -> None:
    evaluate(settings(documents, chat=None), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    edit(tmp_path / "b" / "results.json", schema=SCHEMA + 1)
    for act in (lambda: compare(tmp_path / "a", tmp_path / "b"), lambda: report([tmp_path / "b"], tmp_path / "p.html")):
        with pytest.raises(RunError, match=rf"b/results.json: written by a newer .*schema {SCHEMA + 1}.*update"):
            act()
    assert read_results(tmp_path / "a" / "results.json")["schema"] == SCHEMA


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_tokens": 99},
        {"concurrency": 1},
        {"price_usd_per_million": [1.0, 2.0]},
        {"max_cost_usd": 5.0},
        {"longbench_chat": {"judge_concurrency": 1}},
        {"longbench_chat": {"judge_price_usd_per_million": [1.0, 2.0], "judge_max_cost_usd": 5.0}},
    ],
    ids=str,
)
def test_how_a_model_is_asked_does_not_ask_it_again(documents: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    first = settings(documents).model_dump(mode="json")
    again = {key: first[key] | value if isinstance(value, dict) else value for key, value in changes.items()}
    evaluate(EvalSettings.model_validate(first), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    evaluate(EvalSettings.model_validate(first | again), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before


def test_a_new_label_reaches_results_and_page_without_a_call(documents: Path, tmp_path: Path) -> None:
    with serve(lambda body: "amber") as endpoint:
        first = EvalSettings.model_validate({"model": endpoint.spec, "short": {"questions": 7}, "label": "one"})
        was = evaluate(first, tmp_path / "out")
        asked = len(endpoint.seen)
        now = evaluate(first.model_copy(update={"label": "two", "model_seed": 3}), tmp_path / "out")
        assert len(endpoint.seen) == asked == 7
        plain = evaluate(first.model_copy(update={"label": None}), tmp_path / "out")
    assert (now["label"], now["model_seed"]) == ("two", 3)
    assert plain["label"] == plain["model"]
    figures = [{k: v for k, v in r.items() if k not in ("label", "model_seed", "text")} for r in (was, now, plain)]
    assert figures[0] == figures[1] == figures[2]
    assert read_results(tmp_path / "out" / "results.json")["label"] == plain["model"]
    assert len(read_jsonl(tmp_path / "out" / "answers.jsonl")) == 7
    report([tmp_path / "out"], tmp_path / "page.html")
    assert plain["model"] in (tmp_path / "page.html").read_text(encoding="utf-8")
