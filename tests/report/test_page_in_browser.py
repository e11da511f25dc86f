"""The page of a real run, made by the recipe's own stages, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.micro import MODELS
from tests.report.test_page import CHROMIUM, elements, open_in_browser


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_the_page_of_a_run_opens_without_errors_or_requests(micro_run: Path, tmp_path: Path) -> None:
    complaints, shown = open_in_browser(micro_run / "report.html", tmp_path / "profile")
    assert complaints == []
    assert "How this was made" in shown
    for model in MODELS:
        assert model in shown


def test_the_page_of_a_run_is_whole_and_shows_every_part(micro_run: Path) -> None:
    found = elements(micro_run / "report.html")
    classes = " ".join(attributes.get("class") or "" for _, attributes in found)
    assert classes.count("heatmap") == len(MODELS)
    assert [attributes["src"] for _, attributes in found if attributes.get("src")] == []
    text = (micro_run / "report.html").read_text(encoding="utf-8")
    for part in ("needle", "short skills", "training loss", "throughput", "padded", "balanced"):
        assert part in text.lower()
