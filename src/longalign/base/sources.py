"""Resolves the name of an input: something bundled (`builtin:NAME`), a file or folder, or something remote (a hub id).

Only this module parses the prefix. `longalign.data.source.Source` adds reading documents and rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from longalign.base.files import fingerprint_path
from longalign.errors import ConfigError

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
    """The directory of a bundled model; any other name unchanged. Raises `ConfigError` for no such model."""
    named = Named(name)
    if named.bundled and not named.bundled_model:
        raise ConfigError(f"`{name}`: no such bundled model; there is `{PREFIX}tiny-base`")
    return str(named.path) if named.bundled else name
