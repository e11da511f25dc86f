"""Writes rows as JSON lines or Parquet, by the name of the file; the readers of training take both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_path, json_line
from longalign.errors import ConfigError, RunError

FORMS = (".jsonl", ".parquet")
BATCH_ROWS = 256


def check_out(out: Path, inputs: Iterable[str], *, ours: bool = False) -> None:
    """Raise `ConfigError` for a name of another form or that of an input, `RunError` for a file that is there already
    unless it is `ours` to write again."""
    if out.suffix not in FORMS:
        raise ConfigError(f"--out {out}: must end in {' or '.join(FORMS)}, for example {out.with_suffix('')}.jsonl")
    _check_free(out, inputs, ours)


def same_inputs(report: Path, name: str) -> bool:
    """Whether a report beside an output says that it was made from `name`: then the same command may go on."""
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("in") == name


def check_free(out: Path, inputs: Iterable[str]) -> None:
    """The same for a file of any form."""
    _check_free(out, inputs, False)


def _check_free(out: Path, inputs: Iterable[str], ours: bool) -> None:
    for name in inputs:
        if Path(name).exists() and out.exists() and out.samefile(name):
            raise ConfigError(f"--out {out}: is the file that is read; choose another")
    if out.exists() and not ours:
        raise RunError(f"{out}: exists already; choose another --out, or move it away")


def write_rows(out: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole file of rows or nothing, in constant memory. Raises `ConfigError` where pyarrow is needed and not
    there."""
    with atomic_path(out) as temporary:
        lines = temporary if out.suffix == ".jsonl" else temporary.with_suffix(".lines")
        with lines.open("w", encoding="utf-8") as stream:
            stream.writelines(map(json_line, rows))
        if out.suffix == ".parquet":
            _to_parquet(lines, temporary)


def _to_parquet(lines: Path, out: Path) -> None:
    """Every field a column of the type that all its values fit into; one that has none, or objects without fields of
    their own, holds JSON texts, which the readers of rows take too."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(f"{out.name}: Parquet needs pyarrow; `pip install 'longalign[datasets]'`") from None
    schema, as_json = _schema(lines, pyarrow)
    with pyarrow.parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in _batches(lines):
            columns = [_column(batch, field.name, as_json) for field in schema]
            arrays = [pyarrow.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))


def _schema(lines: Path, pyarrow: Any) -> tuple[Any, set[str]]:
    fields: dict[str, Any] = {}
    as_json: set[str] = set()
    for batch in _batches(lines):
        for name in dict.fromkeys(name for row in batch for name in row):
            if name in as_json:
                continue
            try:
                found = pyarrow.field(name, pyarrow.array([row.get(name) for row in batch]).type)
                known = [pyarrow.schema([fields[name]])] if name in fields else []
                fields[name] = pyarrow.unify_schemas(
                    [*known, pyarrow.schema([found])], promote_options="permissive"
                ).field(0)
            except pyarrow.ArrowException:
                as_json.add(name)
    as_json |= {name for name, field in fields.items() if _has_empty_object(field.type, pyarrow)}
    kept = [pyarrow.field(name, pyarrow.string()) for name in sorted(as_json) if name not in fields]
    return pyarrow.schema(
        [pyarrow.field(name, pyarrow.string()) if name in as_json else field for name, field in fields.items()] + kept
    ), as_json


def _has_empty_object(kind: Any, pyarrow: Any) -> bool:
    if pyarrow.types.is_struct(kind):
        return kind.num_fields == 0 or any(_has_empty_object(field.type, pyarrow) for field in kind)
    return bool(pyarrow.types.is_list(kind)) and _has_empty_object(kind.value_type, pyarrow)


def _column(batch: list[dict[str, Any]], name: str, as_json: set[str]) -> list[Any]:
    values = [row.get(name) for row in batch]
    if name not in as_json:
        return values
    return [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]


def _batches(lines: Path) -> Iterator[list[dict[str, Any]]]:
    with lines.open(encoding="utf-8") as stream:
        while batch := [json.loads(line) for line in islice(stream, BATCH_ROWS)]:
            yield batch
