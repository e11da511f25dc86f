"""Which rows of each file are trained on, how often, and what share of the training they are.

`draw_mix` decides before tokenisation, or after it where tokens are counted. `shares_of` reads the result from a
token store. The definition of a mix by weights is in core/mix.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from longalign.base.files import random_for
from longalign.config.mix import Amount, Portion, is_weighted
from longalign.core.mix import exact, nearest_rows, quotas, whole_rows
from longalign.data.store import TokenStore
from longalign.errors import ConfigError, DataError

Unit = Literal["rows", "tokens"]
Times = NDArray[np.int64]
"""How often each row of a file is used."""
TokensOf = Callable[[str], NDArray[np.int64]]
"""Name of a file -> tokens that each of its rows has in training."""


def draw_mix(
    files: Mapping[str, Amount], rows_of: Mapping[str, int], *, by: Unit, total: int | None, seed: int,
    tokens_of: TokensOf,
) -> dict[str, Times]:  # fmt: skip
    """How often each row of each file is used; a pure function of its arguments. `rows_of`: rows that a file has.

    `tokens_of` is asked only where tokens are counted. Raises `DataError` for a file with too few rows.
    """
    times = {
        name: _drawn(name, rows_of[name], _fixed(name, rows_of[name], amount), seed)
        for name, amount in files.items()
        if not is_weighted(amount)
    }
    weighted = {name: amount for name, amount in files.items() if isinstance(amount, Portion) and amount.weight}
    if weighted:
        if total is not None:
            taken = sum(_amount(times[name], tokens_of(name) if by == "tokens" else None) for name in times)
            if taken >= total:
                raise ConfigError(
                    f"mix_total: the files without a weight take {taken:,} {by}, which leaves nothing of {total:,}"
                )
            total -= taken
        times |= _by_weight(weighted, rows_of, by=by, total=total, seed=seed, tokens_of=tokens_of)
    return {name: times[name] for name in files}


def _by_weight(
    files: Mapping[str, Portion], rows_of: Mapping[str, int], *, by: Unit, total: int | None, seed: int,
    tokens_of: TokensOf,
) -> dict[str, Times]:  # fmt: skip
    tokens = {name: tokens_of(name) for name in files} if by == "tokens" else {}
    held = {name: int(tokens[name].sum()) if by == "tokens" else rows_of[name] for name in files}
    if empty := [name for name, size in held.items() if size == 0]:
        raise DataError(f"{empty[0]}: has a weight in the mix, but no {by} to train on")
    most = {name: exact(portion.epochs or 1.0) * held[name] for name, portion in files.items()}
    if by == "rows":
        most = {name: Fraction(int(amount)) for name, amount in most.items()}
        if none := [name for name, amount in most.items() if not amount]:
            few = f"{files[none[0]].epochs:g} times {rows_of[none[0]]} rows"
            raise DataError(f"{none[0]}: has a weight in the mix, but {few} is no whole row; raise its `epochs`")
    weights = {name: portion.weight or 0.0 for name, portion in files.items()}
    wanted = quotas(weights, most, total=total, whole=by == "rows")
    if by == "rows":
        return {name: _drawn(name, rows_of[name], count, seed) for name, count in whole_rows(wanted).items()}
    return {
        name: nearest_rows(wanted[name], tokens[name], _generator(name, seed).permutation(rows_of[name]))
        for name in files
    }


def _fixed(name: str, rows: int, amount: Amount) -> int:
    """Rows of a file without a weight, repetitions included."""
    if amount is None:
        return rows
    portion = amount if isinstance(amount, Portion) else Portion(rows=amount) if amount else None
    if portion is None:
        return 0
    epochs = exact(portion.epochs or 1.0)
    if portion.rows is None:
        return max(int(epochs * rows + Fraction(1, 2)), min(rows, 1))
    if portion.rows > epochs * rows:
        often = f", each used {portion.epochs:g} times at most" if portion.epochs else ""
        repeat = f"{{rows: {portion.rows}, epochs: {-(-portion.rows // max(rows, 1))}}}"
        raise DataError(
            f"{name}: {portion.rows} rows are wanted but it has {rows}{often}; ask for fewer or build more"
            + ("" if often else f", or let them repeat: {repeat}")
        )
    return portion.rows


def _drawn(name: str, rows: int, wanted: int, seed: int) -> Times:
    """Every row as often as all of them fit into `wanted`, and the rest drawn without repetition."""
    passes, rest = divmod(wanted, rows) if rows else (0, 0)
    times_R = np.full(rows, passes, dtype=np.int64)
    if rest:
        times_R[_generator(name, seed).choice(rows, size=rest, replace=False)] += 1
    return times_R


def _generator(name: str, seed: int) -> np.random.Generator:
    return random_for(seed, "rows", Path(name).name)


def _amount(times_R: Times, tokens_R: NDArray[np.int64] | None) -> int:
    return int(times_R.sum() if tokens_R is None else (times_R * tokens_R).sum())


@dataclass(frozen=True, kw_only=True)
class FileShare:
    """What is trained on of one file, in one epoch of the training.

    held: its rows. rows: those used, repetitions included; distinct: without them. The shares are of all sequences
    (of the loss, where every sequence counts the same), of all tokens and of all targets.
    """

    file: str
    held: int | None
    rows: int | None
    distinct: int | None
    sequences: int
    tokens: int
    targets: int
    sequence_share: float
    token_share: float
    target_share: float

    @property
    def times(self) -> float | None:
        """How often a row that is used is used, on average."""
        return self.rows / self.distinct if self.rows and self.distinct else None


def drawn_rows(times: Mapping[str, Times]) -> dict[str, dict[str, int]]:
    """What a store notes of each file's rows."""
    return {name: {"held": len(n), "rows": int(n.sum()), "distinct": int((n > 0).sum())} for name, n in times.items()}


def file_shares(drawn: Mapping[str, Mapping[str, int]], found: Mapping[str, Sequence[int]]) -> list[FileShare]:
    """`drawn`: as `drawn_rows` gives it; `found`: file -> sequences, tokens, targets."""
    sums = [max(sum(figures[place] for figures in found.values()), 1) for place in range(3)]
    shares = []
    for name in dict.fromkeys([*found, *drawn]):
        sequences, tokens, targets = found.get(name, (0, 0, 0))
        rows = drawn.get(name, {})
        shares.append(
            FileShare(
                file=name, held=rows.get("held"), rows=rows.get("rows"), distinct=rows.get("distinct"),
                sequences=sequences, tokens=tokens, targets=targets,
                sequence_share=sequences / sums[0], token_share=tokens / sums[1], target_share=targets / sums[2],
            )
        )  # fmt: skip
    return shares


def shares_of(store: TokenStore) -> list[FileShare]:
    """The mix in a store; empty for stores that earlier versions wrote."""
    return file_shares(store.description.get("drawn") or {}, store.description.get("files") or {})


def is_mix(shares: Sequence[FileShare]) -> bool:
    """Whether there is anything to tell: several files, a part of one, or repetitions."""
    return len(shares) > 1 or any(share.rows != share.held for share in shares)


def mix_lines(shares: Sequence[FileShare]) -> list[str]:
    """The mix for people, a line a file."""
    return [_line(share) for share in shares] if is_mix(shares) else []


def _line(share: FileShare) -> str:
    rows = ""
    if share.rows is not None:
        repeated = f", each {share.times:.3g} times" if share.times and share.times > 1 else ""
        rows = f"{share.distinct:,} of {share.held:,} rows{repeated}, "
    return (
        f"mix: {share.file}: {rows}{share.sequences:,} sequences ({share.sequence_share:.1%}), "
        f"{share.tokens:,} tokens ({share.token_share:.1%}), {share.targets:,} targets ({share.target_share:.1%})"
    )


def as_dicts(shares: Sequence[FileShare]) -> list[dict[str, Any]]:
    """The mix as JSON-able values."""
    return [asdict(share) for share in shares]


def shares_in(summary: Mapping[str, Any]) -> list[FileShare]:
    """The mix that a stage's summary holds; empty where there is nothing to tell, and in those of earlier versions."""
    shares = [FileShare(**share) for share in (summary.get("data") or {}).get("mix") or ()]
    return shares if is_mix(shares) else []


COLUMNS = ("file", "rows used", "times each", "sequences", "tokens", "targets")


def cells(share: FileShare) -> tuple[str, ...]:
    """One line of a table with `COLUMNS`; of the file's path only the name, since tables are published."""
    return (
        Path(share.file).name,
        "" if share.rows is None else f"{share.distinct:,} of {share.held:,}",
        f"{share.times:.3g}" if share.times else "",
        f"{share.sequences:,} ({share.sequence_share:.1%})",
        f"{share.tokens:,} ({share.token_share:.1%})",
        f"{share.targets:,} ({share.target_share:.1%})",
    )


def mix_table(summary: Mapping[str, Any]) -> str:
    """The mix as a Markdown table below another one, or nothing."""
    if not (shares := shares_in(summary)):
        return ""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(cells, shares)]
    return "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)
