"""The coverage that the guide tells of is the simulation's."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RARE = "rare and large: 9 points in 2.5% of n = 50"
CASES = (
    "10 clusters of 5, rounded",
    "10 clusters of 1 to 12",
    "sparse and skewed, 10% of n = 50",
    "85% ties, n = 25",
    "normal, n = 50",
)


def test_the_guide_quotes_the_simulation() -> None:
    rows = json.loads((ROOT / "benchmarks" / "results" / "coverage.json").read_text())["rows"]
    found = {row["case"]: row for row in rows["differences"]}
    guide = (ROOT / "docs" / "guide" / "eval.md").read_text(encoding="utf-8")
    table = guide.split("| differences | now |")[1].split("\n\n")[0]
    quoted = [[float(cell) for cell in re.findall(r"([\d.]+)% \|", line)] for line in table.splitlines()[2:]]
    assert len(quoted) == len(CASES)
    for case, figures in zip(CASES, quoted, strict=True):
        assert all(
            abs(100 * found[case][name] - f) < 0.051 for name, f in zip(("ours", "t", "bca"), figures, strict=True)
        )
    rest = [row["ours"] for case, row in found.items() if case != RARE]
    means = [row["ours"] for row in rows["means"]]
    said = f"The lowest of {len(rest)} kinds of differences is {100 * min(rest):.1f}%, of {len(means)} kinds of means"
    assert f"{said} {100 * min(means):.1f}%" in " ".join(guide.split())
    assert f"in {100 * found[RARE]['ours']:.0f}%" in guide
    assert min(row["ours"] for row in rows["right_or_wrong"]) > 0.94
