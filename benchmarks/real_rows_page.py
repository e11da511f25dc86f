"""The page `docs/results/real-rows.md`, from `real_rows.json` and what a reader wrote down about its rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

from longalign.base.files import fingerprint

PAGE = Path(__file__).parents[1] / "docs" / "results" / "real-rows.md"
SHOWN_ACCEPTED, SHOWN_REFUSED = 3, 5
SHOWN_CHARACTERS = 300
WIDTH = 120
POINTS = (
    "The checks compare words. They keep out what has no support, but cannot tell a wrong reading in the document's "
    "own words from a right one. A checker (`--checker`, of another family and far larger) is there for that; a model "
    "of this size cannot check itself.",
    "Ask such a model for one question a call, in one short sentence: it follows nothing longer.",
    "For rows to train on (nothing of that was measured here), take an instruction model of several billion parameters "
    "or more, the preset `best` and the built-in prompts, and read 30 rows before you ask for thousands.",
)

Found = Mapping[str, Any]


def page(results: Path) -> str:
    """The page, as Markdown."""
    measured = json.loads((results / "real_rows.json").read_text(encoding="utf-8"))
    read = json.loads((results / "real_rows_read.json").read_text(encoding="utf-8"))
    return "\n".join(_lines(measured, read)) + "\n"


def reading_key(candidate: Found) -> str:
    """Names a candidate in the notes of a reader: its question and answer."""
    return fingerprint(candidate["question"], candidate["answer"])[:12]


def _lines(measured: Found, read: Found) -> Iterator[str]:
    cases = {case["what"]: case for case in measured["rows"]}
    main = cases["short prompts"]
    machine = main["measured_on"]
    good = [row for row in main["rows"] if read.get(reading_key(row), {}).get("right")]
    share, (low, high) = main["accepted_share"], main["accepted_share_95"]
    yield "# A model of 135 million parameters as the writer of rows"
    yield ""
    yield "Written by `python -m benchmarks.real_rows` from [its result](../../benchmarks/results/real_rows.json)."
    yield ""
    yield fill(
        f"SmolLM2-135M-Instruct (Apache-2.0, PyPI package `{measured['model']}`) wrote questions and answers about "
        f"{main['documents']} pieces of Python's documentation, 500 to 1,100 characters each, tried once. It gave "
        f"**{main['accepted']} rows of {main['tried']} documents**, {share:.0%} (95% interval {low:.0%} to "
        f"{high:.0%}). Read one by one, **{len(good)} of these {main['accepted']} are good**. So train nothing on rows "
        "of this model. It serves to try the whole path with a real model, without a GPU or a key.",
        WIDTH,
    )
    yield ""
    yield fill(
        f"Machine: one thread of {machine['processor']}, commit {machine['commit']}. Other work shared the cores, so "
        "processor time says more than the clock. Settings beyond the defaults:",
        WIDTH,
    )
    yield ""
    yield "```"
    yield " ".join(f"--{name} {_option(value)}" for name, value in main["settings"].items())
    yield "```"
    yield ""
    yield from _table(cases)
    yield ""
    yield "## What was refused, and why"
    yield ""
    yield from _reasons(cases)
    yield ""
    yield "## Rows that were accepted"
    yield ""
    for row in _spread(main["rows"], SHOWN_ACCEPTED, lambda row: str(read.get(reading_key(row), {}).get("right"))):
        yield from _candidate(row, read, f"support {row['support']:.2f}")
    yield "## Candidates that were refused"
    yield ""
    for row in _spread(main["refused"], SHOWN_REFUSED, lambda row: str(row["reason"])):
        yield from _candidate(row, read, ": ".join([row["reason"], *[row["detail"]] * ("support" in row["detail"])]))
    yield from _words(main, read)


def _table(cases: Mapping[str, Found]) -> Iterator[str]:
    """Counts, tokens and seconds by case."""
    yield "| | " + " | ".join(cases) + " |"
    yield "|---|" + "---|" * len(cases)
    cells: dict[str, Callable[[Found], object]] = {
        "documents tried": lambda c: c["tried"],
        "with a question": lambda c: c["with_questions"],
        "rows": lambda c: c["accepted"],
        "accepted (95% interval)": lambda c: (
            f"{c['accepted_share']:.0%} ({c['accepted_share_95'][0]:.0%} to {c['accepted_share_95'][1]:.0%})"
        ),
        "calls": lambda c: c["calls"],
        "prompt tokens": lambda c: f"{c['prompt_tokens']:,}",
        "new tokens": lambda c: f"{c['new_tokens']:,}",
        "seconds by the clock": lambda c: f"{c['wall_s']:,.0f}",
        "seconds of processor time, a server's too": lambda c: f"{c['cpu_s']:,.0f}",
        "new tokens a second of it": lambda c: f"{c['new_tokens_per_cpu_s']:.1f}",
    }
    for name, cell in cells.items():
        yield f"| {name} | " + " | ".join(str(cell(case)) for case in cases.values()) + " |"


def _reasons(cases: Mapping[str, Found]) -> Iterator[str]:
    """How often each reason came, by case."""
    total = sum((Counter(case["reasons"]) for case in cases.values()), Counter[str]())
    yield "| reason | " + " | ".join(cases) + " |"
    yield "|---|" + "---|" * len(cases)
    for reason, _ in total.most_common():
        yield f"| {reason} | " + " | ".join(str(case["reasons"].get(reason, 0)) for case in cases.values()) + " |"


def _candidate(row: Found, read: Found, heading: str) -> Iterator[str]:
    """One candidate: what it is about, its question and answer, and what a reader said."""
    note = read.get(reading_key(row), {})
    yield f"**{row['title']}, {row['task']}** ({heading})"
    yield ""
    if row["question"]:
        yield f"> Q: {_shown(row['question'])}"
        yield ">"
    yield f"> {'A' if row['question'] else 'Reply to the call for a question'}: {_shown(row['answer'])}"
    yield ""
    for evidence in row.get("evidence", ())[:2]:
        yield f'Evidence: "{_shown(evidence)}"'
        yield ""
    if note:
        verdict = f"{'rightly' if note['right'] else 'wrongly'} {'accepted' if 'support' in row else 'refused'}"
        yield f"Reader: {verdict}. {note['why']}"
        yield ""


def _words(main: Found, read: Found) -> Iterator[str]:
    """What follows."""
    refused = [read[key] for row in main["refused"] if (key := reading_key(row)) in read]
    rightly = sum(note["right"] for note in refused)
    yield "## What follows"
    yield ""
    yield f"- Of {len(refused)} refused candidates that were read, {rightly} were refused rightly."
    for point in POINTS:
        yield fill(f"- {point}", WIDTH, subsequent_indent="  ")


def _spread(rows: list[Any], count: int, kind: Callable[[Any], str]) -> list[Any]:
    """The first of every kind, then the second ones, ...: at most `count`, in the order of the file."""
    seen: Counter[str] = Counter()
    ranks = []
    for place, row in enumerate(rows):
        ranks.append((seen[kind(row)], place))
        seen[kind(row)] += 1
    return [rows[place] for place in sorted(place for _, place in sorted(ranks)[:count])]


def _shown(text: str) -> str:
    """One line of a text, its beginning where it is long."""
    line = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return line if len(line) <= SHOWN_CHARACTERS else line[:SHOWN_CHARACTERS].rsplit(" ", 1)[0] + " ..."


def _option(value: object) -> str:
    return f"'{value}'" if set(" []") & set(str(value)) else str(value)
