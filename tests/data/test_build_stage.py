"""A build is a stage: one manifest, skipped when done, set aside when other settings are asked for, ledger kept."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longalign.base.stage import open_stage
from longalign.config import DataSettings
from longalign.data import build_files
from longalign.data.build import build
from longalign.data.build_report import SCHEMA, BuildReport
from longalign.errors import ConfigError, RunError
from longalign.report.collect import collect
from tests.data.test_build import settings
from tests.llm.chat_server import ChatServer

ENDINGS = ("jsonl", "rejected.jsonl", "documents.jsonl", "report.json", "ledger.sqlite", "work")


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "stage.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def as_version_0_1_left_it(rows: Path, chosen: DataSettings, *, stage: Path) -> None:
    """Turns a finished build into one of the version that had no stage.json, byte for byte in what is read of it."""
    (stage / "stage.json").unlink()
    file = rows.with_name(f"{rows.stem}.report.json")
    report = json.loads(file.read_text(encoding="utf-8"))
    counter = build_files.TokenCounter(chosen.tokenizer)
    stamp = build_files._stamp_of_version_0_1(chosen, build_files.Inputs.of(chosen, counter))
    del report["schema"]
    file.write_text(json.dumps(report | {"fingerprint": stamp}), encoding="utf-8")
    (rows.with_name(f"{rows.stem}.work") / "building").write_text(stamp, encoding="utf-8")


def test_a_folder_is_a_stage_like_the_others(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    chosen = settings(corpus_dir, tokenizer_dir)
    report = build(chosen, tmp_path / "data" / "long")
    written = manifest(tmp_path / "data" / "long")
    assert (written["stage"], written["status"]) == ("data", "done")
    assert written["settings"] == chosen.model_dump(mode="json")
    assert set(written["inputs"]) == {str(corpus_dir), "tokenizer", "llm", "prompts"}
    assert written["wall_s"] >= report["wall_s"] >= 0
    assert written["machine"]["cores"]
    assert {"rows", "tried", "rejected_by_reason", "spend", "tokens", "by_task", "by_language", "by_source"} <= set(
        written["summary"]
    )
    assert sum(written["summary"]["evidence_positions"].values()) > 0
    assert report["out"] == str(tmp_path / "data" / "long" / "rows.jsonl")
    (stage,) = collect([tmp_path]).named("data")
    assert (stage.place, stage.done) == ("data/long", True)


def test_a_file_has_its_stage_beside_it(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for seed in (0, 1):
        build(settings(corpus_dir, tokenizer_dir, seed=seed), tmp_path / "out" / "long.jsonl")
    beside = {f"long.{ending}" for ending in ENDINGS}
    assert names(tmp_path / "out") == {"mine.txt", *beside}
    assert names(tmp_path / "out" / "long.work") == {"stage.json", "documents.sqlite", "superseded"}


@pytest.mark.parametrize("out", ["long", "long.jsonl"])
def test_other_settings_pay_only_for_what_was_not_asked_before(
    out: str, corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ChatServer() as server:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec)
        build(chosen, tmp_path / out)
        paid = sum(server.served.values())
        more = build(chosen.model_copy(update={"rows": 12}), tmp_path / out)
        assert more["rows"] == 12
        assert sum(server.served.values()) == paid + 4  # two rows of two calls
        assert max(server.served.values()) == 1
    assert "`rows` was 10 and is now 12; the earlier outputs are in" in capsys.readouterr().err


def test_what_does_not_decide_the_rows_restarts_nothing(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "concurrency": 2, "timeout_s": 9.0, "max_cost_usd": 50.0, "price_usd_per_million": (3.0, 4.0)
    }  # fmt: skip
    with ChatServer() as server, ChatServer() as moved:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec, price_usd_per_million=(1.0, 2.0))
        first = build(chosen, tmp_path / "long")
        for name, value in changes.items():
            assert build(chosen.model_copy(update={name: value}), tmp_path / "long") == first
        assert build(chosen.model_copy(update={"llm": moved.spec}), tmp_path / "long") == first
        assert moved.bodies == []


def test_a_cap_on_money_leaves_the_stage_unfinished(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    with ChatServer() as server:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec, price_usd_per_million=(100.0, 1000.0))
        build(chosen.model_copy(update={"max_cost_usd": 1.5}), tmp_path / "long")
        assert manifest(tmp_path / "long")["status"] == "running"
        build(chosen.model_copy(update={"max_cost_usd": 100.0}), tmp_path / "long")
    assert manifest(tmp_path / "long")["status"] == "done"
    assert not (tmp_path / "long" / "superseded").exists()


def test_a_plan_sets_nothing_aside(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    build(settings(corpus_dir, tokenizer_dir), tmp_path / "long")
    before = (tmp_path / "long" / "stage.json").read_bytes(), (tmp_path / "long" / "rows.jsonl").read_bytes()
    build(settings(corpus_dir, tokenizer_dir, rows=3), tmp_path / "long", plan_only=True)
    assert before == tuple((tmp_path / "long" / name).read_bytes() for name in ("stage.json", "rows.jsonl"))


@pytest.mark.parametrize(("out", "file"), [("long.jsonl", "long.jsonl"), ("long", "long/rows.jsonl")])
def test_a_finished_build_of_version_0_1_is_recognised(
    out: str, file: str, corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    rows = tmp_path / file
    stage = rows.parent if out == "long" else tmp_path / "long.work"
    with ChatServer() as server:
        chosen = settings(corpus_dir, tokenizer_dir, llm=server.spec)
        first = build(chosen, tmp_path / out)
        as_version_0_1_left_it(rows, chosen, stage=stage)
        before, paid = rows.stat().st_mtime_ns, len(server.bodies)
        again = build(chosen.model_copy(update={"concurrency": 2}), tmp_path / out)
        assert again == first
        assert (rows.stat().st_mtime_ns, len(server.bodies)) == (before, paid)
        assert manifest(stage)["status"] == "done"
        # its ledger serves other settings too, and its rows are not lost to them
        old = rows.read_bytes()
        as_version_0_1_left_it(rows, chosen, stage=stage)
        build(chosen.model_copy(update={"rows": 9}), tmp_path / out)
        assert max(server.served.values()) == 1
    assert [path.read_bytes() for path in (stage / "superseded").rglob(rows.name)] == [old]


def test_a_build_of_version_0_1_is_known_by_the_stamp_it_wrote() -> None:
    """The literal is what version 0.1 computed for these settings and contents."""
    chosen = DataSettings(
        preset="paper", documents=("books",), decontaminate=("cases.json",), llm="openai:writer@http://a:1/v1", rows=7,
        seed=3, concurrency=2, max_cost_usd=1.0, price_usd_per_million=(1, 2),
    )  # fmt: skip
    inputs = build_files.Inputs(
        {"books": "BOOKS"}, {"cases.json": "CASES"}, "TOK", "openai:writer", ("prompt-en", "prompt-zh")
    )
    stamp = build_files._stamp_of_version_0_1(chosen, inputs)
    assert stamp == "10314399b777312aa2d2cd276dc37b9f3545585e2ca9bb6d0cb19f702e7536a7"
    assert build_files._stamp_of_version_0_1(chosen, replace(inputs, llm="openai:other")) != stamp


def test_rows_that_were_changed_are_set_aside_and_built_again(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    chosen = settings(corpus_dir, tokenizer_dir)
    build(chosen, tmp_path / "long")
    rows = tmp_path / "long" / "rows.jsonl"
    right = rows.read_bytes()
    rows.write_text("mine\n")
    build(chosen, tmp_path / "long")
    assert rows.read_bytes() == right
    assert [path.read_text() for path in (tmp_path / "long" / "superseded").rglob("rows.jsonl")] == ["mine\n"]


def test_the_folder_of_another_stage_is_refused(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    chosen = settings(corpus_dir, tokenizer_dir)
    with open_stage(tmp_path / "train", "train", settings=chosen, inputs={}, version=1) as stage:
        stage.finish({})
    with pytest.raises(RunError, match="holds stage `train`; choose another --out"):
        build(chosen, tmp_path / "train")
    with pytest.raises(ConfigError, match=r"must be a .jsonl file, for example .*long.jsonl, or a folder"):
        build(chosen, tmp_path / "long.json")


def test_a_report_is_read_as_it_was_written_by_this_version_or_an_earlier_one(
    corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path
) -> None:
    found = build(settings(corpus_dir, tokenizer_dir), tmp_path / "long")
    file = tmp_path / "long" / "rows.report.json"
    report = BuildReport.read(file)
    assert report is not None
    assert report.as_dict().items() <= found.items()
    assert json.loads(file.read_text(encoding="utf-8")) == found
    earlier = {key: value for key, value in found.items() if key != "schema"}
    assert BuildReport.from_dict(earlier, file) == report
    with pytest.raises(RunError, match="written by a newer LongAlign"):
        BuildReport.from_dict(found | {"schema": SCHEMA + 1}, file)
    with pytest.raises(RunError, match="no report of a build, `rows_wanted` is missing"):
        BuildReport.from_dict({"rows": 3}, file)
    file.write_text("{")
    with pytest.raises(RunError, match="damaged report"):
        BuildReport.read(file)
    assert BuildReport.read(tmp_path / "none.json") is None


def test_a_moved_build_is_recognised(corpus_dir: Path, tokenizer_dir: Path, tmp_path: Path) -> None:
    chosen = settings(corpus_dir, tokenizer_dir)
    first = build(chosen, tmp_path / "a" / "long")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert build(chosen, tmp_path / "b" / "long")["rows_sha256"] == first["rows_sha256"]
    assert not (tmp_path / "b" / "long" / "superseded").exists()
