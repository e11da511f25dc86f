"""The page fits screens of 360 to 1600 pixels, and axe finds nothing serious where axe-core is at hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
from html import escape
from pathlib import Path

import pytest

from longalign.report.page import report
from tests.report.conftest import write_needle, write_run, write_short
from tests.report.test_page import CHROMIUM, QUIET

LONG = "Meta-Llama-3.1-8B-Instruct-longalign-packed-with-weighting-64k"
AXE = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
WIDTHS = (360, 390, 768, 1280, 1600)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
MEASURE = """
const tell = (found) => { document.getElementById("found").textContent = JSON.stringify(found); };
addEventListener("load", async () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const inside = frame.contentDocument, width = frame.width;
    const out = [...inside.querySelectorAll("main *")].filter((e) => !e.closest(".scroll, svg, #tip")
      && e.getBoundingClientRect().right > width + 1).map((e) => e.outerHTML.slice(0, 80));
    const axe = frame.contentWindow.axe ? (await frame.contentWindow.axe.run(inside)).violations
      .filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => v.id) : [];
    found[width] = { wider: inside.documentElement.scrollWidth - width, out, axe };
  }
  tell(found);
});
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to open the page with")
def test_nothing_leaves_the_page_at_any_width_and_axe_finds_nothing_serious(tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", seeds=(0, 1))
    write_needle(root / "eval" / "x" / "needle", LONG, (0.9,) * 5, None, failed=12)
    write_short(root / "eval" / "x" / "short", LONG, 0.9, None)
    report([root], tmp_path / "page.html")
    page = POLICY.sub("", (tmp_path / "page.html").read_text(encoding="utf-8"))
    if AXE.exists():
        page = page.replace("</body>", f"<script>{AXE.read_text(encoding='utf-8')}</script></body>")
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{escape(page)}"></iframe>' for width in WIDTHS)
    (tmp_path / "all.html").write_text(f'<pre id="found"></pre>{frames}<script>{MEASURE}</script>', encoding="utf-8")
    command = [str(CHROMIUM), *QUIET, "--virtual-time-budget=60000", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, (tmp_path / "all.html").as_uri()], capture_output=True, text=True, timeout=120)
    shown = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert shown is not None
    found = json.loads(shown[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert set(found) == set(map(str, WIDTHS))
    for width, at in found.items():
        assert at["wider"] <= 0, width
        assert at["out"] == [], width
        assert at["axe"] == [], width
