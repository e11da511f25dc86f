"""What `make demo` measured, kept as data and quoted in the README.

python -m benchmarks.demo runs/tiny-full     writes benchmarks/results/demo.json and the claim in README.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "demo.json"
README = Path(__file__).parents[1] / "README.md"
COMMAND, END = "python -m benchmarks.demo", "<!-- end of claim -->"


def gather(run: Path) -> dict[str, Any]:
    """Results of a run folder, with the seconds of its stages and the machine."""
    stages = {str(path.parent.relative_to(run)): read(path) for path in sorted(run.rglob("stage.json"))}
    return {
        "results": read(run / "results.json"),
        "throughput": read(run / "throughput" / "results.json"),
        "seconds": {name: stage["wall_s"] for name, stage in stages.items() if "superseded" not in name},
        "seeds": read(run / "run.json")["seeds"],
        "measured_on": read(run / "run.json")["machine"],
    }


def claim(found: dict[str, Any]) -> str:
    """The README's measured claim, as Markdown."""
    needle, machine = found["results"]["needle"], found["measured_on"]
    lengths = list(next(iter(needle.values())))
    rows = [
        f"| {name} | " + " | ".join(f"{row[n]['accuracy']:.2f}" for n in lengths) + " |" for name, row in needle.items()
    ]
    questions = needle["base"][lengths[-1]]["questions"]
    short = found["results"]["short"]
    speed = found["throughput"]
    ratio = speed["balanced"]["tokens_per_s"] / speed["padded"]["tokens_per_s"]
    command = "make demo-full" if len(found["seeds"]) > 1 else "make demo"
    return "\n".join(
        [
            f"`{command}` on {machine['cores']} cores ({machine['processor']}), commit {machine['commit']}: a model of",
            "1M parameters with a window of 256 tokens goes through the whole recipe. Share of needles found by prompt",
            f"length in tokens ({questions} questions a cell and seed, names and values never seen in training;",
            f"fine-tuned models: mean of {len(found['seeds'])} seed(s)):",
            "",
            "| model | " + " | ".join(f"{int(n):,}" for n in lengths) + " |",
            "|---|" + "---|" * len(lengths),
            *rows,
            "",
            f"Short skills: {short['sft-long']['accuracy']:.2f} after long + short rows, "
            f"{short['sft-short']['accuracy']:.2f} after short rows only. Balanced steps",
            f"trained {ratio:.1f} times as many tokens a second as padded batches of the same rows.",
        ]
    )


def quote(text: str, page: str, command: str = COMMAND) -> str:
    """`page` with `text` between the marks of what this command measured."""
    begin = f"<!-- claim: {command} -->"
    before, rest = page.split(begin)
    _, after = rest.split(END, 1)
    return f"{before}{begin}\n{text}\n{END}{after}"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    measured = gather(Path(sys.argv[1]))
    RESULT.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    README.write_text(quote(claim(measured), README.read_text(encoding="utf-8")), encoding="utf-8")
