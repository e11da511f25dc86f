"""docs/guide/python.md is executed: every block runs in order, and prints what the guide shows below it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "python.md"
BLOCK = re.compile(r"^```python( trl)?\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


@pytest.mark.slow
def test_every_block_runs_and_prints_what_the_guide_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") > 10
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "guide"}
    for needs_trl, code, shown in blocks:
        if needs_trl and find_spec("trl") is None:
            continue
        line = text[: text.index(code)].count("\n")
        capsys.readouterr()
        exec(compile("\n" * line + code, str(GUIDE), "exec"), names)
        printed = capsys.readouterr().out
        if shown.startswith("...\n"):  # lines with times before it
            assert printed.endswith(shown.removeprefix("...")), f"line {line}"
        elif shown:
            assert printed == shown, f"line {line}"
