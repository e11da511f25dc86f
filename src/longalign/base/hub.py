"""Data sets of the Hugging Face hub: `hub:ORG/NAME`, then, where wanted, `/CONFIG`, `@REVISION` and `:SPLIT`.

    hub:HuggingFaceH4/no_robots    hub:allenai/tulu/all@v1.0:test    the split is `train` unless one is named

A data set is downloaded once into the cache of `datasets` and read from there, also offline.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.errors import DataError, first_line

PREFIX = "hub:"
_NAME = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?:@([\w./-]+))?(?::([\w.-]+))?")


@dataclass(frozen=True)
class HubName:
    """The parts of a name."""

    repository: str
    config: str | None
    revision: str | None
    split: str


def is_hub_name(name: str) -> bool:
    return name.startswith(PREFIX)


def parts_of(name: str) -> HubName:
    """Raises `DataError` for a name of another form."""
    if not (found := _NAME.fullmatch(name)):
        raise DataError(f"{name}: no data set's name; write hub:ORG/NAME, then /CONFIG, @REVISION, :SPLIT where wanted")
    return HubName(found[1], found[2], found[3], found[4] or "train")


def rows_of_hub(name: str, batch_rows: int) -> Iterator[Mapping[str, Any]]:
    """Its rows in order, a batch in memory. Raises `DataError` when it cannot be had."""
    for batch in _open(name).with_format("arrow").iter(batch_size=batch_rows):
        yield from batch.to_pylist()


def fingerprint_of_hub(name: str) -> str:
    """Of its content: changes with the revision, the configuration and the split. Downloads the data set."""
    return f"{name} {_open(name)._fingerprint}"


def _open(name: str) -> Any:
    wanted = parts_of(name)
    try:
        import datasets
    except ImportError:
        raise DataError(f"{name}: reading data sets of the hub needs `pip install 'longalign[datasets]'`") from None
    if Path(wanted.repository).exists():  # `datasets` would read that instead
        raise DataError(f"{name}: a folder {wanted.repository} is here, too; name its files, or run elsewhere")
    try:
        return datasets.load_dataset(wanted.repository, wanted.config, revision=wanted.revision, split=wanted.split)
    except Exception as error:  # of datasets, huggingface_hub, httpx, pyarrow
        raise DataError(
            f"{name}: cannot be read from the hub ({type(error).__name__}: {first_line(error)[:200]}); "
            "check the name and the network"
        ) from None
