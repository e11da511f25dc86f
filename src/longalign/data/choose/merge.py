"""`data merge`: several files as one, each conversation once, and every row says where it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longalign.base.files import fingerprint
from longalign.data.choose.given import Given, Row, content_key, read_given
from longalign.data.choose.row_out import check_out, write_rows
from longalign.data.row_counts import FileRows

SHOWN = 10
FROM = "merged_from"
"""Field of a merged row: the file it came from, and the id it had there where that was taken."""


@dataclass
class Merged:
    """What became of the rows: `written + repeated == read and usable`, by file.

    conflicts: rows that share a conversation or an id and differ otherwise, in words, each with both places.
    """

    written: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)
    read: dict[str, Counter[str]] = field(default_factory=dict)


def merge(names: Sequence[str], out: Path) -> dict[str, Any]:
    """Write the rows of all files, in order, to `out`; of rows with the same conversation the first is kept.

    Two conversations of one id are both kept, the later one as `ID~KEY`. Returns the counts, with `text`.
    """
    check_out(out, names)
    found = Merged()
    write_rows(out, _rows(names, found))
    files = {
        name: {
            "read": FileRows.of(counts).words,
            "written": found.written[name],
            "repeated": found.repeated[name],
        }
        for name, counts in found.read.items()
    }
    lines = [
        f"{name}: {each['read']}; {each['written']:,} written, {each['repeated']:,} repeat an earlier row"
        for name, each in files.items()
    ]
    lines += [f"conflict: {words}" for words in found.conflicts[:SHOWN]]
    if len(found.conflicts) > SHOWN:
        lines.append(f"and {len(found.conflicts) - SHOWN:,} more conflicts (--json lists all)")
    total = found.written.total()
    return {
        "out": str(out),
        "rows": total,
        "files": files,
        "conflicts": found.conflicts,
        "text": "\n".join([*lines, f"{total:,} rows in {out}"]),
    }


def _rows(names: Sequence[str], found: Merged) -> Iterator[Row]:
    places: dict[str, tuple[str, dict[str, int]]] = {}  # content -> where it came first, hashes of its other fields
    ids: dict[str, str] = {}
    for name in names:
        counts = found.read.setdefault(name, Counter())
        for given in read_given(name, counts):
            key = content_key(given.row)
            if key in places:
                found.repeated[name] += 1
                where, fields = places[key]
                others = _fields(given)
                if differ := sorted(at for at in fields.keys() & others.keys() if fields[at] != others[at]):
                    kept = f"{where} and {given.where} hold the same conversation and differ in {', '.join(differ)}"
                    found.conflicts.append(f"{kept}; the first is kept")
                continue
            places[key] = given.where, _fields(given)
            found.written[name] += 1
            origin = {"file": Path(name).name}
            row_id = given.id
            if row_id in ids:
                row_id, origin["id"] = f"{given.id}~{key}", given.id
                found.conflicts.append(
                    f"{ids[given.id]} and {given.where} are different rows with the id {given.id}; "
                    f"the second is now {row_id}"
                )
            ids[row_id] = given.where
            yield {**given.raw, "id": row_id, "source": given.row["source"], FROM: given.raw.get(FROM) or origin}


def _fields(given: Given) -> dict[str, int]:
    """Hashes of what a row says beside its conversation and where it came from."""
    left = {"id", "messages", "source", FROM}
    return {name: int(fingerprint(value)[:15], 16) for name, value in given.row.items() if name not in left}
