"""Several right answers to one question, as a judge's prompt shows them: any one of them is enough.

`read_alternatives` is the inverse of writing, so that the offline judge scores the best match, as a real one is told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ANY_ONE = "Each of these {count} answers is right and complete by itself; agreeing with any one of them is enough:"
_HEADING = re.compile(re.escape(ANY_ONE).replace(r"\{count\}", r"(\d+)") + r"\n")


def write_alternatives(answers: Sequence[str]) -> str:
    """The answers as one reference; a single one stays as it is."""
    different = list(dict.fromkeys(answers))
    if len(different) == 1:
        return different[0]
    numbered = "\n".join(f"({number}) {text}" for number, text in enumerate(different, start=1))
    return f"{ANY_ONE.format(count=len(different))}\n{numbered}"


def read_alternatives(reference: str) -> list[str]:
    """The answers that a reference holds."""
    heading = _HEADING.match(reference)
    if heading is None:
        return [reference]
    rest, found = reference[heading.end() :].removeprefix("(1) "), []
    for number in range(2, int(heading[1]) + 1):
        text, _, rest = rest.partition(f"\n({number}) ")
        found.append(text)
    return [*found, rest]
