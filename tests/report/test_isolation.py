"""Text that runs from right to left, or turns the text around, moves nothing beside it: neither a score nor a name."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import read_jsonl
from longalign.report.isolate import CONTROLS, inline, isolate, turns
from longalign.report.page import report

EVIL = "Q \u202e unterminated?"  # an override that nothing ends
WORDS = re.compile(r"[\u05d0-\u05ea]")
OWN = {
    "task",
    "stage",
    "status",
    "key",
    "kind",
    "dataset",
    "rubric",
    "category",
    "fingerprint",
    "identity",
    "figure",
    "group",
    "cluster",
    "language",
    "started_at",
    "finished_at",
    "resumed_at",
    "strategy",
    "weighting",
    "scale",
}
TEMPLATE = Path("src/longalign/report/templates/page.html")


class Texts(HTMLParser):
    """Pieces of text with the elements around them, and all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, list[str]]] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [value for _, value in attrs if value]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append((data, list(self.open)))


def poisoned(value: Any, text: str, key: str = "") -> Any:
    """Every free text of a result file with `text` at its end; what the program itself chooses from stays."""
    if isinstance(value, dict):
        return {name: poisoned(inner, text, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, text, key) for inner in value]
    return f"{value}{text}" if isinstance(value, str) and key not in OWN else value


@pytest.fixture(params=[EVIL, " שלום"], ids=["override", "Hebrew"])
def page(request: pytest.FixtureRequest, run_folder: Path, tmp_path: Path) -> tuple[str, Path]:
    root = shutil.copytree(run_folder, tmp_path / f"run{request.param[:1]}")
    for path in [*root.rglob("results.json"), *root.rglob("stage.json")]:
        path.write_text(json.dumps(poisoned(json.loads(path.read_text()), request.param)))
    for path in root.rglob("scores.jsonl"):
        path.write_text("\n".join(json.dumps(poisoned(row, request.param)) for row in read_jsonl(path)))
    report([root], tmp_path / "page.html")
    return request.param, tmp_path / "page.html"


def test_every_text_that_turns_is_isolated_or_stripped(page: tuple[str, Path]) -> None:
    parser = Texts()
    parser.feed(page[1].read_text(encoding="utf-8"))
    turning = [(text, around) for text, around in parser.texts if turns(text) and "style" not in around]
    assert len(turning) > 20
    for text, around in turning:
        alone = re.sub("\u2068[^\u2068\u2069]*\u2069", "", text)  # between isolating characters of ours
        assert "bdi" in around or not turns(alone), text
    for value in parser.attributes:
        assert not any(chr(code) in value for code in CONTROLS if code not in (0x2068, 0x2069)), value
        assert not WORDS.search(re.sub("\u2068[^\u2068\u2069]*\u2069", "", value)), value


def test_a_score_stands_in_its_own_piece_of_text(page: tuple[str, Path]) -> None:
    """No piece of text inside `<bdi>` holds a figure of ours together with the foreign text."""
    text = page[1].read_text(encoding="utf-8")
    labels = re.findall(r"<tr><th>((?:<bdi>)?[^<]*(?:</bdi>)?)</th><td><b>(\d+)%</b>", text)
    assert labels


def test_no_value_reaches_an_attribute_of_the_template_as_an_element() -> None:
    """Every `{{ ... }}` is isolated by the environment; inside attributes and the title it has to say `plain`."""
    text = TEMPLATE.read_text(encoding="utf-8")
    inside = re.findall(r'="[^"<>]*\{\{(.*?)\}\}', text) + re.findall(r"<title>[^<]*\{\{(.*?)\}\}", text)
    assert len(inside) >= 5
    assert [value for value in inside if not value.strip().endswith("| plain")] == []
    assert re.findall(r"\|\s*safe", text) == ["| safe"] * 2  # style and script, which are files of ours
    assert "| join(" not in text


@given(st.text(alphabet=st.sampled_from("ab1 \u05d0\u0627\u202e\u202d\u2066\u2067\u2068\u2069\u202c<&"), max_size=12))
def test_nothing_inside_ends_the_isolation(text: str) -> None:
    shown = str(isolate(text))
    assert ("<bdi>" in shown) == turns(text)
    depth = 0
    for letter in shown:
        depth += (letter in "\u2066\u2067\u2068") - (letter == "\u2069")
        if turns(text):
            assert depth >= 0
    named = inline(text)
    assert not any(chr(code) in named.strip("\u2068\u2069") for code in CONTROLS)
    assert turns(named) == bool(re.search("[\u05d0\u0627]", named))
