"""A task that the page knows nothing of still has its place on it: a table by group, or the judged part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from longalign.base.stage import open_stage
from longalign.config import ChatSettings, EvalSettings
from longalign.eval.compare import compare
from longalign.eval.evaluate import run_task
from longalign.eval.judged import JudgedTask
from longalign.report.collect import collect
from longalign.report.page import report
from longalign.report.table import table_sections


def write(folder: Path, label: str, overall: dict[str, Any], by_kind: dict[str, Any], seed: int | None = None) -> None:
    results = {"schema": 1, "task": "own", "title": "Of my own", "label": label, "model_seed": seed}
    with open_stage(folder, "own", settings=EvalSettings(model=folder.name), inputs={}, version=1) as stage:
        (folder / "results.json").write_text(json.dumps({**results, "overall": overall, "by_kind": by_kind}))
        stage.finish(results)


def share(right: int, scored: int, failed: int = 0) -> dict[str, Any]:
    figures = (
        {"accuracy": right / scored, "low": 0.1, "high": 0.9} if scored else dict.fromkeys(("accuracy", "low", "high"))
    )
    return {"questions": scored + failed, "scored": scored, "failed": failed, "right": right, **figures}


def test_a_row_a_model_and_a_column_a_kind_with_what_is_missing(tmp_path: Path) -> None:
    write(tmp_path / "a", "before", share(1, 4), {"x": share(1, 2), "y": share(0, 2)})
    write(tmp_path / "b", "after", share(2, 2, failed=2), {"x": share(2, 2), "z": share(0, 0, failed=2)})
    (section,) = table_sections(collect([tmp_path]))
    assert (section.title, section.columns) == ("Of my own", ("all", "x", "y", "z"))
    before, after = (dict(zip(section.columns, cells, strict=True)) for _, cells in section.rows)
    assert before["all"] == ("25%", "10–90% of 4")
    assert before["z"] == ("–", "not asked")
    assert after["all"] == ("100%", "10–90% of 2, 2 failed")
    assert after["z"] == ("–", "2 failed")


def test_seeds_of_one_label_share_a_row_with_their_range(tmp_path: Path) -> None:
    for seed, right in enumerate((1, 2, 3)):
        write(tmp_path / str(seed), "model", share(right, 4), {"x": share(right, 4)}, seed)
    (section,) = table_sections(collect([tmp_path]))
    assert section.rows == (("model", (("50%", "3 seeds 25–75%"),)),)


def test_means_are_shown_as_numbers(tmp_path: Path) -> None:
    figures = {"questions": 5, "scored": 5, "failed": 0, "mean": 3.25, "low": 2.5, "high": 4.0}
    write(tmp_path / "a", "model", figures, {"x": figures})
    (section,) = table_sections(collect([tmp_path]))
    assert section.rows == (("model", (("3.25", "2.50 to 4.00 of 5"),)),)


class OwnJudged(JudgedTask):
    name = "own_judged"
    title = "Letters of mine"


def test_a_judged_task_of_ones_own_stands_among_the_judged_ones(tmp_path: Path) -> None:
    cases = tmp_path / "cases.jsonl"
    rows = [{"prompt": f"Text {n}.\n\nWhat?", "query": "What?", "reference": f"Text {n}."} for n in range(4)]
    cases.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = OwnJudged(ChatSettings(cases=(str(cases),)))
    for label in ("one", "two"):
        got = run_task(task, EvalSettings(model="offline", label=label), tmp_path / "run" / label)
        assert got["overall"]["scored"] == 4
    assert compare(tmp_path / "run" / "one", tmp_path / "run" / "two")["groups"]["all"]["ties"] == 4
    page = report([tmp_path / "run"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h3>Letters of mine</h3>" in text.partition('<section id="chat">')[2].partition("</section>")[0]
    assert '<section id="tasks">' not in text
    assert "chat" not in page["missing"]
