"""Resolves the name of an input: something bundled (`builtin:NAME`), a file or folder, or something remote (a hub id).

Only this module parses the prefix. `longalign.data.source.Source` adds reading documents and rows.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from longalign.base.files import fingerprint_path
from longalign.errors import ConfigError, ModelError

PREFIX = "builtin:"
BUNDLED = Path(str(files("longalign.bundled")))


@dataclass(frozen=True)
class Named:
    """A name as a person writes it in a setting."""

    name: str

    @property
    def bundled(self) -> bool:
        """Whether it ships with the package: a corpus, a set of rows or a model."""
        return self.name.startswith(PREFIX)

    @property
    def short(self) -> str:
        """The name without its prefix."""
        return self.name.removeprefix(PREFIX)

    @property
    def bundled_model(self) -> bool:
        """Whether it is a model that ships with the package."""
        return self.bundled and (BUNDLED / self.short / "config.json").exists()

    @property
    def path(self) -> Path:
        """Where it lies, if it is a bundled model or a file or folder here."""
        return BUNDLED / self.short if self.bundled_model else Path(self.name)

    @property
    def here(self) -> bool:
        """Whether it can be read now, without a download and without waiting for another stage."""
        return self.bundled or self.path.exists()

    def fingerprint(self) -> str:
        """Content of a model, file or folder. A hub id or a bundled set of texts or rows stands for itself."""
        return fingerprint_path(self.path) if self.path.exists() else f"named:{self.name}"


def model_dir(name: str) -> str:
    """The directory of a bundled model; any other name unchanged.

    Raises `ConfigError` for no such bundled model, and `ModelError` for what can only be a folder and is none.
    """
    named = Named(name)
    if named.bundled and not named.bundled_model:
        raise ConfigError(f"`{name}`: no such bundled model; there is `{PREFIX}tiny-base`")
    if not named.bundled and not _can_be_hub_id(name) and not Path(name).expanduser().exists():
        raise ModelError(missing(name))
    return str(named.path) if named.bundled else name


def missing(name: str) -> str:
    """What to say of a model or tokenizer that is no folder here and that the hub did not give either."""
    path = Path(name).expanduser()
    while not path.parent.exists():  # name the part that is wrong, not the whole path
        path = path.parent
    beside = [other.name for other in path.parent.iterdir() if other.is_dir()] if path.parent.is_dir() else []
    nearest = difflib.get_close_matches(path.name, beside, n=1)
    near = f"; did you mean {path.parent / nearest[0] / Path(name).expanduser().relative_to(path)}?" if nearest else ""
    if not _can_be_hub_id(name):
        return f"no such folder: {name}{near}"
    return f"{name}: no such folder here, and the hub has no model of this id or is not reachable{near}"


def _can_be_hub_id(name: str) -> bool:
    """`owner/name` or `name`, whose owner is no folder here."""
    parts = name.split("/")
    odd = name.startswith((".", "~", "/")) or name.endswith("/") or "\\" in name or len(parts) > 2
    return not odd and not (len(parts) == 2 and Path(parts[0]).is_dir())
