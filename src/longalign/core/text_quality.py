"""Whether a text is worth a question: bad stretches are cut out; what is left is taken, or rejected with a reason."""

from __future__ import annotations

from dataclasses import dataclass

from longalign.core.bad_stretches import Stretch, bad_stretches, without
from longalign.core.text_faults import Fault, fault_of

LEAST_LEFT = 0.3
MOST_PASSES = 10


@dataclass(frozen=True)
class Cut:
    """What was cut out of a text, and why. `start`: its place in characters, after the passes before had cut theirs."""

    reason: str
    start: int
    text: str


@dataclass(frozen=True)
class Checked:
    """A text without its bad stretches; the very same object where there were none. `fault`: why it is rejected."""

    text: str
    cuts: tuple[Cut, ...] = ()
    fault: Fault | None = None


def checked(text: str, *, code: bool = False) -> Checked:
    """Cut and judge a text. Of source code nothing is cut; it is taken as a whole or not at all.

    A text that came out of this comes out again as it is. Blank lines and white space at the ends of lines change
    nothing about the verdict.
    """
    left, cuts = text, list[Cut]()
    for _ in range(0 if code else MOST_PASSES):  # what stood apart may now stand together
        stretches = bad_stretches(left)
        if not stretches:
            break
        cuts.extend(_cuts(left, stretches))
        left = without(left, stretches)
    if cuts and _signs(left) < LEAST_LEFT * _signs(text):
        return Checked(text, fault=_what_it_is(cuts, text))
    return Checked(left, tuple(cuts), fault_of(left, code=code))


def _cuts(text: str, stretches: list[Stretch]) -> list[Cut]:
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    return [Cut(one.reason, starts[one.first], "\n".join(lines[one.first : one.end])) for one in stretches]


def _what_it_is(cuts: list[Cut], text: str) -> Fault:
    sizes: dict[str, int] = {}
    for cut in cuts:
        sizes[cut.reason] = sizes.get(cut.reason, 0) + _signs(cut.text)
    reason = max(sizes, key=lambda name: sizes[name])
    return Fault(reason, f"{sizes[reason] / _signs(text):.0%} of it")


def _signs(text: str) -> int:
    """Characters that are no white space."""
    return sum(map(len, text.split()))
