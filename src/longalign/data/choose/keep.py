"""Which rows are kept: best first, no two questions alike about one document, shares of groups as they were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from longalign.core.text import token_f1
from longalign.data.choose.facts import RowFacts
from longalign.errors import ConfigError

TOO_SHORT = "shorter than --min_length_tokens"
TOO_LONG = "longer than --max_length_tokens"
SAME = "same conversation as a better row"
ALIKE = "question like that of a better row about the same document"
RANK = "rank too low to be kept"


@dataclass(frozen=True)
class LeftOut:
    """Why a row is not kept; `twin`: the index of the row it repeats."""

    reason: str
    twin: int | None = None


def parse_keep(text: str, rows: int) -> int:
    """`2000`, `0.1` or `10%` of `rows`. Raises `ConfigError`."""
    try:
        share = text.endswith("%")
        number = float(text.removesuffix("%"))
    except ValueError:
        number = -1.0
    if number <= 0 or (share and number > 100) or (not share and number >= 1 and number != int(number)):
        raise ConfigError(f"--keep {text}: give a number of rows (2000) or a share (0.1, 10%)")
    if share or number < 1:
        return max(round(rows * (number / 100 if share else number)), 1)
    return int(number)


def best_first(scores: Sequence[float], facts: Sequence[RowFacts]) -> list[int]:
    """Indices by score, equal ones by content and then by place in the file."""
    return sorted(range(len(facts)), key=lambda at: (-scores[at], facts[at].key, at))


def repeats(order: Sequence[int], facts: Sequence[RowFacts], alike: float) -> dict[int, LeftOut]:
    """Rows whose conversation a better row has, or whose first question is like a better row's about the same
    document: harmonic mean of precision and recall over their words of at least `alike`."""
    found: dict[int, LeftOut] = {}
    keys: dict[str, int] = {}
    by_document: dict[str, list[int]] = {}
    for at in order:
        here = facts[at]
        if here.key in keys:
            found[at] = LeftOut(SAME, keys[here.key])
            continue
        keys[here.key] = at
        rivals = by_document.setdefault(here.document, []) if here.document else []
        question = here.questions[0] if here.questions else ()
        twin = next((r for r in rivals if token_f1(facts[r].questions[0], question) >= alike), None)
        if twin is not None:
            found[at] = LeftOut(ALIKE, twin)
        elif question:
            rivals.append(at)
    return found


def quotas(groups: Counter[tuple[str, ...]], keep: int) -> dict[tuple[str, ...], int]:
    """`keep` rows over groups in proportion to their rows, by largest remainder; never more than a group has."""
    total = groups.total()
    keep = min(keep, total)
    shares = {group: divmod(rows * keep, total) for group, rows in groups.items()}
    found = {group: whole for group, (whole, _) in shares.items()}
    by_rest = sorted(shares, key=lambda group: (-shares[group][1], group))
    for group in by_rest[: keep - sum(found.values())]:
        found[group] += 1
    return found


def kept_of(
    order: Sequence[int], facts: Sequence[RowFacts], left_out: dict[int, LeftOut], keep: int, per: tuple[str, ...]
) -> tuple[set[int], dict[tuple[str, ...], tuple[int, int]]]:
    """(indices that are kept, rows by group: eligible and kept). The others are added to `left_out`."""
    eligible = [at for at in order if at not in left_out]
    groups = Counter(facts[at].group(per) for at in eligible)
    room = quotas(groups, keep) if eligible else {}
    kept: set[int] = set()
    for at in eligible:
        group = facts[at].group(per)
        if room[group] > 0:
            room[group] -= 1
            kept.add(at)
        else:
            left_out[at] = LeftOut(RANK)
    counts = Counter(facts[at].group(per) for at in kept)
    return kept, {group: (rows, counts[group]) for group, rows in sorted(groups.items())}
