"""Two evaluations are compared question by question, and the words say no more than the figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from longalign.errors import DataError, RunError
from longalign.eval.compare import compare, pair_up


def folder(path: Path, task: str, rows: list[dict[str, Any]], **results: Any) -> Path:
    path.mkdir()
    judge = {"judge": {"model": "J", "prompt_hash": {"chat": "1"}}}
    (path / "results.json").write_text(json.dumps({"task": task, "label": path.name, **judge, **results}))
    (path / "scores.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return path


def chat_rows(scores: np.ndarray | list[float | None]) -> list[dict[str, Any]]:
    return [
        {
            "key": str(n),
            "question": f"q{n}",
            "document": f"d{n}",
            "dataset": "lb",
            "score": None if s is None else float(s),
        }
        for n, s in enumerate(scores)
    ]


def short_rows(right: list[bool]) -> list[dict[str, Any]]:
    return [
        {"key": str(n), "question": f"q{n}", "kind": ("copy", "swap")[n % 2], "score": {"exact": r}}
        for n, r in enumerate(right)
    ]


def test_the_papers_difference_is_called_what_it_is(tmp_path: Path) -> None:
    """5.76 against 6.21 on 50 questions, with a spread of differences as LongBench-Chat's: not distinguishable."""
    rng = np.random.default_rng(0)
    noise = stats.zscore(rng.normal(size=50)) * 2.85
    base = 5.76 + stats.zscore(rng.normal(size=50))
    a = folder(tmp_path / "packing", "chat", chat_rows(base))
    b = folder(tmp_path / "packing with weighting", "chat", chat_rows(base + 0.45 + noise))
    got = compare(a, b, tmp_path / "compare.json")
    group = got["groups"]["all"]
    assert (group["mean_a"], group["mean_b"]) == pytest.approx((5.76, 6.21))
    assert "5.76 vs 6.21 on 50 questions: not distinguishable (needs about" in got["text"]
    assert 250 <= group["n_needed"] <= 490
    assert group["p"] == pytest.approx(stats.ttest_rel(base + 0.45 + noise, base).pvalue, abs=0.03)
    assert json.loads((tmp_path / "compare.json").read_text())["groups"]["all"]["n"] == 50


def test_a_clear_difference_is_called_higher_or_lower(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(5, 1, size=40)
    a = folder(tmp_path / "a", "chat", chat_rows(base))
    b = folder(tmp_path / "b", "chat", chat_rows(base + 1 + rng.normal(0, 0.5, 40)))
    assert ": higher (difference +" in compare(a, b)["text"]
    assert ": lower (difference -" in compare(b, a)["text"]


def test_right_or_wrong_answers_get_mcnemar_and_kinds_get_holm(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "short", short_rows([True] * 30 + [False] * 10))
    b = folder(tmp_path / "b", "short", short_rows([True] * 18 + [False] * 12 + [True] * 2 + [False] * 8))
    got = compare(a, b)
    group = got["groups"]["all"]
    assert (group["wins"], group["losses"], group["ties"]) == (2, 12, 26)
    assert group["p"] == pytest.approx(stats.chi2.sf((12 - 2) ** 2 / 14, 1))
    assert "lower" in group["statement"]
    p = stats.chi2.sf((6 - 1) ** 2 / 7, 1)
    kinds = [got["groups"][name] for name in ("kind copy", "kind swap")]
    assert [(kind["p"], kind["p_holm"]) for kind in kinds] == [pytest.approx((p, 2 * p))] * 2


def test_unscored_missing_and_changed_questions_are_left_out_and_counted(tmp_path: Path) -> None:
    rows_a, rows_b = chat_rows([1, 2, None, 4, 5]), chat_rows([2, 3, 4, 5])
    rows_b[1]["question"] = "another question under the same key"
    pairs, left_out = pair_up(rows_a, rows_b)
    assert [a["key"] for a, _ in pairs] == ["0", "3"]
    assert left_out == 3
    got = compare(folder(tmp_path / "a", "chat", rows_a), folder(tmp_path / "b", "chat", rows_b))
    assert "left out: 3 questions" in got["text"]


def test_failures_count_as_wrong_on_request(tmp_path: Path) -> None:
    right = short_rows([True] * 20)
    failing = [row | {"answer": None, "score": None} if n < 8 else row for n, row in enumerate(right)]
    a, b = folder(tmp_path / "a", "short", right), folder(tmp_path / "b", "short", failing)
    got = compare(a, b)
    assert (got["groups"]["all"]["n"], got["groups"]["all"]["losses"], got["left_out"]) == (12, 0, 8)
    got = compare(a, b, failed="wrong")
    assert (got["groups"]["all"]["n"], got["groups"]["all"]["losses"], got["left_out"]) == (20, 8, 0)
    assert "counted as wrong: 8 questions" in got["text"]


def test_a_rating_that_failed_counts_as_the_lowest_and_an_unreadable_verdict_stays_out(tmp_path: Path) -> None:
    rows = [row | {"answer": "said", "rubric": "chat"} for row in chat_rows([8.0] * 6)]
    other = [row | {"score": None, "answer": None} if n == 0 else row for n, row in enumerate(rows)]
    other[1] = other[1] | {"score": None}
    a, b = folder(tmp_path / "a", "chat", rows), folder(tmp_path / "b", "chat", other)
    got = compare(a, b, failed="wrong")
    assert (got["groups"]["all"]["n"], got["left_out"]) == (5, 1)
    assert got["groups"]["all"]["mean_b"] == pytest.approx((1 + 4 * 8) / 5)


@pytest.mark.parametrize("seed", range(20))
def test_one_sentence_never_says_two_things(tmp_path: Path, seed: int) -> None:
    """Few, graded and tied answers, where interval and p used to disagree."""
    rng = np.random.default_rng(seed)
    base = rng.integers(4, 9, 25).astype(float)
    moved = np.clip(base + rng.choice([-1, 0, 0, 0, 1, 2], 25), 1, 10)
    a = folder(tmp_path / "a", "chat", chat_rows(base))
    said = compare(a, folder(tmp_path / "b", "chat", chat_rows(moved)))["groups"]["all"]["statement"]
    low, high = map(float, re.findall(r"95% (\S+) to ([^\s,)]+)", said)[0])
    p = re.search(r"p (<|=) ([\d.e-]+)", said)
    assert ("higher" in said or "lower" in said) == (low > 0 or high < 0)
    if p:
        assert (float(p[2]) < 0.05) == (low > 0 or high < 0)


def test_different_judges_are_warned_about(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "chat", chat_rows([1, 2, 3]))
    other = {"model": "K", "prompt_hash": {"chat": "2"}}
    b = folder(tmp_path / "b", "chat", chat_rows([2, 2, 3]), judge=other)
    assert len(compare(a, b)["warnings"]) == 2
    assert "careful: judged by different judges" in compare(a, b)["text"]


def test_equal_results_say_what_could_have_gone_unseen(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", "short", short_rows([True, False] * 10))
    got = compare(a, folder(tmp_path / "b", "short", short_rows([True, False] * 10)))
    assert "no difference seen" in got["text"]
    assert got["groups"]["all"]["p"] == 1


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    chat, short = folder(tmp_path / "a", "chat", chat_rows([1])), folder(tmp_path / "b", "short", short_rows([True]))
    with pytest.raises(DataError, match="compare the same task"):
        compare(chat, short)
    other = folder(tmp_path / "c", "chat", [{**chat_rows([1])[0], "key": "x"}])
    with pytest.raises(DataError, match="no scored question in common"):
        compare(chat, other)
    with pytest.raises(RunError, match=r"no results\.json here"):
        compare(chat, tmp_path)


def test_the_guides_example_says_what_the_guide_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    noise = stats.zscore(rng.normal(size=50)) * 2.85
    base = 5.76 + stats.zscore(rng.normal(size=50))
    folder(tmp_path / "packing", "longbench_chat", chat_rows(base))
    folder(tmp_path / "packing-weighted", "longbench_chat", chat_rows(base + 0.45 + noise))
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "eval.md").read_text(encoding="utf-8")
    ((code, shown),) = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", guide, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "eval.md", "exec"), {})
    assert capsys.readouterr().out == shown
