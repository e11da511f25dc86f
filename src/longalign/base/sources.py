"""What a name means: something bundled (`builtin:`), or a path."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from longalign.errors import ConfigError

PREFIX = "builtin:"
BUNDLED = Path(str(files("longalign.bundled")))


def is_builtin(name: str) -> bool:
    """Whether a name means something bundled rather than a path or hub id."""
    return name.startswith(PREFIX)


def is_bundled_model(name: str) -> bool:
    """Whether a name means a model that ships with the package."""
    return is_builtin(name) and (BUNDLED / name.removeprefix(PREFIX) / "config.json").exists()


def model_dir(name: str) -> str:
    """The directory of a bundled model; any other name unchanged."""
    if not is_builtin(name):
        return name
    if not is_bundled_model(name):
        raise ConfigError(f"`{name}`: no such bundled model; there is `builtin:tiny-base`")
    return str(BUNDLED / name.removeprefix(PREFIX))
