"""The page says what the files hold, loads nothing, escapes everything, and opens without complaint in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from longalign.base.files import read_jsonl
from longalign.core.paired import paired_comparison
from longalign.errors import RunError
from longalign.report.collect import collect
from longalign.report.page import report
from longalign.report.short import judge_drop, short_section
from tests.report.conftest import LENGTHS, MODELS, write_chat, write_needle, write_results, write_run, write_short

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in BROWSERS if (path := shutil.which(name))), None)
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--log-level=0", "--dump-dom"),
]


@pytest.fixture(scope="module")
def page(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "page.html"
    report([run_folder], path)
    return path


class Elements(HTMLParser):
    """Every element's name and attributes, and whether tags are balanced."""

    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def elements(path: Path) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.open == []
    return parser.found


def test_nothing_on_the_page_points_outside(page: Path) -> None:
    for name, attributes in elements(page):
        assert name not in ("link", "img", "iframe", "object", "embed", "base", "form")
        for key in ("src", "href", "xlink:href", "action", "style", "onclick"):
            value = attributes.get(key)
            assert value is None or value.startswith("#"), (name, key, value)
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    assert "unsafe" not in policy[1]
    assert "url(" not in text
    assert "@import" not in text


def test_every_figure_of_the_results_is_on_the_page(page: Path, run_folder: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count('class="figure heatmap"') == len(MODELS)
    assert text.count('class="cell"') == len(MODELS) * len(LENGTHS) * 5
    for label in MODELS:
        results = json.loads((run_folder / "eval" / _place(label) / "needle" / "results.json").read_text())
        for row in results["by_length"].values():
            assert f"<b>{100 * row['accuracy']:.0f}%</b>" in text
        cell = results["cells"]["2048"]["0.5"]
        assert f"2,048 long, depth 50%: {cell['right']} of {cell['scored']} right" in text


def test_all_parts_are_there_and_the_papers_figures_are_called_the_papers(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in ("needle", "short", "chat", "training", "data", "throughput", "samples", "paper", "manifest"):
        assert f'<section id="{part}">' in text
    assert "Missing:" not in text
    words = re.sub(r' d="[^"]*"', "", text)
    ours, paper = words.split('<section id="paper">')
    assert "None of the figures below was measured here" in paper
    assert "117.2" in paper
    assert "117.2" not in ours
    assert "not distinguishable by themselves" in paper.replace("\n", " ")


def test_held_out_losses_are_drawn_by_length_and_by_source(page: Path) -> None:
    drawn = re.findall(r"held-out loss of (train/\S+) by (length in tokens|source)", page.read_text(encoding="utf-8"))
    arms = {arm for arm, _ in drawn}
    assert arms
    assert set(drawn) == {(arm, what) for arm in arms for what in ("length in tokens", "source")}


def test_the_verdict_comes_from_the_results(run_folder: Path, tmp_path: Path) -> None:
    got = report([run_folder], tmp_path / "page.html")
    results = json.loads((run_folder / "eval" / _place("sft-long") / "needle" / "results.json").read_text())
    assert f"sft-long finds {100 * results['by_length']['2048']['accuracy']:.0f}% of the needles" in got["verdict"]
    assert "base 0%" in got["verdict"]
    assert "short skills" in got["verdict"]
    assert got["missing"] == []


def test_foreign_text_cannot_become_markup(run_folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(run_folder, tmp_path / "run")
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}</style>'
    for path in root.rglob("scores.jsonl"):
        rows = read_jsonl(path)
        for row in rows:
            row["answer"] = row["question"] = row["expected"] = evil
            row["failure"] = evil
        path.write_text("\n".join(json.dumps(row) for row in rows))
    for path in [*root.rglob("results.json"), *root.rglob("stage.json")]:
        value = json.loads(path.read_text())
        if "label" in value:
            value["label"] = f"{value['label']} {evil}"
            value["notes"] = [evil]
        if "machine" in value:
            value["machine"]["processor"] = evil
            value["settings"]["model"] = evil
        path.write_text(json.dumps(value))
    report([root], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert sum(name == "script" for name, _ in elements(tmp_path / "page.html")) == 1
    assert all(name != "img" for name, _ in elements(tmp_path / "page.html"))
    assert "&lt;script&gt;alert(1)" in text
    assert "{{ 7 * 7 }}" in text


def test_missing_parts_are_shown_as_missing(tmp_path: Path) -> None:
    write_needle(tmp_path / "run" / "needle", "only model", (1.0, 0.9, 0.8, 0.7, 0.6), None, failed=7)
    got = report([tmp_path / "run"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert got["missing"] == ["short", "chat", "training", "data", "throughput"]
    assert text.count("Missing:") == 5
    assert "only model finds" in got["verdict"]
    assert "7 of 200 questions have no answer" in text
    assert re.search(r"<small>[\d–%]+, \d failed</small>", text)
    assert "rejected: HTTP 400: &lt;too long&gt; &amp; more" not in got["verdict"]
    elements(tmp_path / "page.html")


def test_what_was_measured_speaks_and_silence_is_admitted(tmp_path: Path) -> None:
    write_chat(tmp_path / "chat", "judged", 7)
    assert report([tmp_path / "chat"], tmp_path / "page.html")["verdict"].startswith("judged answers: judged ")
    write_short(tmp_path / "short", "alone", 0.9, None)
    assert report([tmp_path / "short"], tmp_path / "page.html")["verdict"].startswith("short skills: alone ")
    write_results(tmp_path / "judge", "judge", {"text": "x"})
    assert "No evaluation results yet" in report([tmp_path / "judge"], tmp_path / "page.html")["verdict"]


def test_a_dropped_skill_is_called_dropped_and_an_open_question_is_called_open(tmp_path: Path) -> None:
    for label, rate in (("before", 0.95), ("same", 0.95), ("worse", 0.5)):
        write_short(tmp_path / "run" / label, label, rate, None)
    evaluated = collect([tmp_path / "run"]).evaluated("short")
    section = short_section(evaluated, reference="before")
    assert section is not None
    by_label = {row.label: row for row in section.rows}
    assert by_label["before"].verdict is None
    assert by_label["worse"].dropped is True
    assert by_label["worse"].verdict is not None
    assert by_label["worse"].verdict.startswith("dropped (")
    assert by_label["same"].dropped in (False, None)
    assert by_label["same"].verdict is not None
    assert not by_label["same"].verdict.startswith("dropped")


@pytest.mark.parametrize(
    ("right", "n", "said", "dropped"),
    [
        (1.0, 20, "cannot tell: 20 answers cannot rule out a drop of 5 points", None),
        (1.0, 140, "not dropped", False),
        (0.0, 140, "cannot tell: the reference has too little to lose", None),
    ],
)
def test_equal_shares_are_no_proof_where_questions_are_few_or_none_is_right(
    right: float, n: int, said: str, dropped: bool | None
) -> None:
    got = paired_comparison([right] * n, [right] * n, np.random.default_rng(0))
    words, found = judge_drop(got, 1.0)
    assert words.startswith(said)
    assert found is dropped


def test_several_seeds_give_a_mean_and_a_range(tmp_path: Path) -> None:
    root = write_run(tmp_path / "seeds", seeds=(0, 1, 2))
    got = report([root], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count('class="figure heatmap"') == len(MODELS)  # seeds of one label share a heatmap
    assert "3 seeds" in text
    rows = [
        json.loads((root / "eval" / f"sft-long-{seed}" / "needle" / "results.json").read_text())["by_length"]["2048"]
        for seed in (0, 1, 2)
    ]
    shares = [row["accuracy"] for row in rows]
    assert f"sft-long finds {100 * sum(shares) / 3:.0f}%" in got["verdict"]
    assert f", {rows[0]['scored']} questions" in got["verdict"]  # asked three times, they are no more
    assert f"seeds {100 * min(shares):.0f}–{100 * max(shares):.0f}%" in text


def test_an_unfinished_stage_is_named(run_folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(run_folder, tmp_path / "run")
    path = root / "train" / "long-seed0" / "stage.json"
    manifest = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: value for key, value in manifest.items() if key != "summary"} | {"status": "running"})
    )
    (root / "eval" / _place("base") / "needle" / "results.json").unlink()
    got = report([root], tmp_path / "page.html")
    assert got["unfinished"] == ["train/long-seed0"]
    assert "not finished" in (tmp_path / "page.html").read_text()


def test_harness_tasks_and_judge_tests_are_shown(run_folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(run_folder, tmp_path / "run")
    row = {"metric": "acc", "shots": 5, "questions": 100, "accuracy": 0.455, "low": 0.36, "high": 0.55}
    write_results(
        root / "lb", "leaderboard", {"label": "sft-long", "harness": "0.4.13", "limit": 100, "tasks": {"mmlu": row}}
    )
    write_results(root / "judge", "judge", {"text": "judge and people agree with Spearman 0.80"})
    report([root], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "mmlu (5 shots)" in text
    assert "only a part of the questions was asked" in text
    assert "<b>46%</b><small>36–55% of 100</small>" in text
    assert "Test of a judge: judge and people agree" in text
    elements(tmp_path / "page.html")


def test_folders_without_runs_and_damaged_files_are_errors(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing has been run there"):
        report([tmp_path], tmp_path / "page.html")
    with pytest.raises(RunError, match="no such folder"):
        report([tmp_path / "none"], tmp_path / "page.html")
    root = shutil.copytree(run_folder, tmp_path / "run")
    path = next(root.rglob("needle/results.json"))
    path.write_text("{")
    with pytest.raises(RunError, match=r"results\.json: damaged"):
        report([root], tmp_path / "page.html")


def test_superseded_stages_stay_out(run_folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(run_folder, tmp_path / "run")
    shutil.copytree(root / "eval" / _place("base"), root / "eval" / "superseded" / "old")
    assert report([root], tmp_path / "a.html")["stages"] == report([run_folder], tmp_path / "b.html")["stages"]


def test_the_report_never_imports_torch() -> None:
    program = "import sys, longalign.report.page; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def _place(label: str) -> str:
    return f"{label}-0" if label.startswith("sft") else label


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_a_browser_opens_the_page_without_errors_or_requests(page: Path, tmp_path: Path) -> None:
    complaints, shown = open_in_browser(page, tmp_path / "profile")
    assert complaints == []
    assert "How this was made" in shown
    bad = tmp_path / "bad.html"  # the same check must see a page that does ask for something
    bad.write_text(
        page.read_text(encoding="utf-8").replace("</main>", '<img src="http://example.invalid/x.png"></main>')
    )
    complaints, _ = open_in_browser(bad, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in complaints)


def open_in_browser(page: Path, profile: Path) -> tuple[list[str], str]:
    """Console complaints (a blocked request is one) and the page as the browser has built it."""
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={profile}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line], done.stdout


def test_missing_answers_are_named_in_the_first_sentence_and_beside_every_score(tmp_path: Path) -> None:
    write_needle(tmp_path / "needle", "m", (1.0,) * 5, None, failed=7)
    got = report([tmp_path], tmp_path / "page.html")
    assert "m has no answer to 7 of 200 questions of needle: these are left out of the figures" in got["verdict"]
    wrong = report([tmp_path], tmp_path / "wrong.html", failed="wrong")
    assert "m has no answer to 7 of 200 questions of needle: unanswered questions count as wrong" in wrong["verdict"]
    kept, counted = ((tmp_path / name).read_text() for name in ("page.html", "wrong.html"))
    assert "100% over all" in kept
    assert f"{100 * 193 / 200:.0f}% over all" in counted
    assert "failed, counted wrong" in counted
    assert "7 of 200 questions have no answer and are left out of the shares" in kept
    assert "7 of 200 questions have no answer and count as wrong" in counted
    assert "left out" not in counted


def test_failures_counted_as_wrong_reach_judged_scores_and_comparisons(tmp_path: Path) -> None:
    write_chat(tmp_path / "chat", "m", 8)
    rows = read_jsonl(tmp_path / "chat" / "scores.jsonl")
    for row in rows[:10]:
        row.update(answer=None, score=None, failure="rejected", ratings=[None, None], worst=1.0, best=10.0)
    (tmp_path / "chat" / "scores.jsonl").write_text("\n".join(map(json.dumps, rows)))
    results = json.loads((tmp_path / "chat" / "results.json").read_text())
    results["overall"] |= {"failed": 10, "scored": 10}
    (tmp_path / "chat" / "results.json").write_text(json.dumps(results))
    got = report([tmp_path], tmp_path / "page.html", failed="wrong")
    scores = [1.0 if row["score"] is None else row["score"] for row in rows]
    assert f"m {np.mean(scores):.2f} [" in got["verdict"]
    assert "10 failed, counted as lowest" in (tmp_path / "page.html").read_text()


def test_a_home_made_question_with_a_stand_in_for_a_judge_is_not_in_the_papers_table(tmp_path: Path) -> None:
    write_chat(tmp_path / "chat", "m", 8)
    results = json.loads((tmp_path / "chat" / "results.json").read_text())
    results["by_dataset"] = {"longbench-chat": results["overall"]}
    for judge, there in (("offline judge 1 (word overlap)", False), ("gpt", True)):
        results["judge"]["model"] = judge
        (tmp_path / "chat" / "results.json").write_text(json.dumps(results | {"cases": "mine/own.json"}))
        report([tmp_path], tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text()
        assert ("Our models in the same columns" in text) == there
    assert "<small>20 of own.json, by gpt</small>" in text
