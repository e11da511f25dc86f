"""`data diff`: which rows two files share, and how what they hold differs.

Rows are matched by id first, then by content: a row that only changed its id is `renamed`, one that kept its id and
changed otherwise is `changed`, with the fields that differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from longalign.base.files import fingerprint
from longalign.data.choose.given import content_key, read_given
from longalign.data.choose.stats import RowStats, stats_of, table_text

SHOWN = 10
MOST_GROUPS = 8


@dataclass(frozen=True)
class RowDiff:
    """Ids of rows by what became of them between A and B. `changed`: id -> fields that differ; `renamed`: old -> new
    id; `same` counts rows that are equal in every field."""

    same: int
    added: list[str]
    removed: list[str]
    changed: dict[str, list[str]]
    renamed: dict[str, str]


@dataclass(frozen=True)
class _Print:
    """Hashes of a row: of its conversation, and of each field."""

    key: str
    fields: Mapping[str, int]


def diff(a: str, b: str) -> dict[str, Any]:
    """`{"rows": ..., "distributions": {group: {value: [rows of A, rows of B]}}, "text": ...}`."""
    found = diff_of(_prints(a), _prints(b))
    before, after = stats_of(a), stats_of(b)
    groups = _distributions(before, after)
    sizes = {"a": {"file": a, "rows": before.rows, "tokens": before.tokens}}
    sizes["b"] = {"file": b, "rows": after.rows, "tokens": after.tokens}
    text = _text(found, before, after, groups)
    return {**sizes, "rows": asdict(found), "distributions": groups, "text": text}


def diff_of(a: Mapping[str, _Print], b: Mapping[str, _Print]) -> RowDiff:
    """Every id of A is in `removed`, `changed`, `renamed` or among the same ones; every id of B likewise."""
    only_a = [name for name in a if name not in b]
    only_b = [name for name in b if name not in a]
    waiting: dict[str, list[str]] = {}
    for name in only_b:
        waiting.setdefault(b[name].key, []).append(name)
    renamed = {}
    for name in only_a:
        if twins := waiting.get(a[name].key):
            renamed[name] = twins.pop(0)
    changed = {}
    for name in a:
        if name in b and (differ := _differ(a[name].fields, b[name].fields)):
            changed[name] = differ
    found_again = set(renamed.values())
    return RowDiff(
        same=sum(name in b for name in a) - len(changed),
        added=[name for name in only_b if name not in found_again],
        removed=[name for name in only_a if name not in renamed],
        changed=changed,
        renamed=renamed,
    )


def _differ(a: Mapping[str, int], b: Mapping[str, int]) -> list[str]:
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def _prints(name: str) -> dict[str, _Print]:
    """By id; the second row of one id is `ID (2)`."""
    found: dict[str, _Print] = {}
    seen: Counter[str] = Counter()
    for given in read_given(name):
        seen[given.id] += 1
        label = given.id if seen[given.id] == 1 else f"{given.id} ({seen[given.id]})"
        own = {field: value for field, value in given.row.items() if field != "id"}
        if not given.raw.get("source"):
            del own["source"]  # the name of the file
        hashes = {field: int(fingerprint(value)[:15], 16) for field, value in own.items()}
        found[label] = _Print(content_key(given.row), hashes)
    return found


def _distributions(a: RowStats, b: RowStats) -> dict[str, dict[str, list[int]]]:
    """Groups whose shares of the rows differ."""
    changed = {}
    for name, before in a.groups.items():
        after = b.groups[name]
        pairs = {value: [before.get(value, 0), after.get(value, 0)] for value in dict.fromkeys([*before, *after])}
        if any(x * max(b.rows, 1) != y * max(a.rows, 1) for x, y in pairs.values()):
            changed[name] = pairs
    return changed


def _text(found: RowDiff, a: RowStats, b: RowStats, groups: Mapping[str, Mapping[str, list[int]]]) -> str:
    from rich.table import Table

    lines = [
        f"A {a.file}: {a.rows:,} rows, {a.tokens:,} tokens",
        f"B {b.file}: {b.rows:,} rows, {b.tokens:,} tokens",
        f"{found.same:,} the same, {len(found.changed):,} changed, {len(found.renamed):,} renamed, "
        f"{len(found.added):,} added, {len(found.removed):,} removed",
    ]
    for word, names in (("added", found.added), ("removed", found.removed)):
        if names:
            lines.append(f"{word}: {_some(names)}")
    if found.renamed:
        lines.append(f"renamed: {_some([f'{old} is {new}' for old, new in found.renamed.items()])}")
    if found.changed:
        lines.append(f"changed: {_some([f'{name} ({chr(44).join(at)})' for name, at in found.changed.items()])}")
    if groups:
        table = Table("", "", "A", "B", "share of A", "share of B", box=None, pad_edge=False)
        for name, pairs in groups.items():
            widest = sorted(
                pairs.items(), key=lambda item: -abs(item[1][0] / max(a.rows, 1) - item[1][1] / max(b.rows, 1))
            )
            for value, (x, y) in widest[:MOST_GROUPS]:
                shares = (f"{x / max(a.rows, 1):.1%}", f"{y / max(b.rows, 1):.1%}")
                table.add_row(name, value, f"{x:,}", f"{y:,}", *shares)
        lines.append(table_text(table))
    for name in dict.fromkeys([*a.quantiles, *b.quantiles]):
        before, after = (each.quantiles.get(name, {}).get("p50") for each in (a, b))
        if before != after:
            lines.append(f"median of {name}: {_figure(before)} -> {_figure(after)}")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:,g}"


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
