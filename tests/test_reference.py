"""The reference of settings is what the code says, and says something about every key."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_of_settings_is_made_from_the_code() -> None:
    made = runpy.run_path(str(ROOT / "docs/reference/make.py"))["page"]()
    assert made == (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8"), "run `make reference`"


def test_every_setting_has_a_description() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| `", text, re.MULTILINE)) > 150
    assert not re.findall(r"^\| `(\w+)` .*\|\s*\|$", text, re.MULTILINE)
