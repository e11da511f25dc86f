"""Resolves the name of an input: something bundled (`builtin:NAME`), a file or folder, a data set of the hub
(`hub:ORG/NAME`), or something else remote (a model's hub id).

Only this module parses the prefix. `longalign.data.source.Source` adds reading documents and rows.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from longalign.base.files import fingerprint_path
from longalign.base.hub import fingerprint_of_hub, is_hub_name
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
        """Whether it can be read now, without waiting for another stage. A data set of the hub is downloaded for it."""
        return self.bundled or is_hub_name(self.name) or self.path.exists()

    def fingerprint(self) -> str:
        """Content of a model, file, folder or data set. A model's hub id or a bundled set of texts or rows stands for
        itself."""
        if is_hub_name(self.name):
            return fingerprint_of_hub(self.name)
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


def not_there(name: str | Path) -> str:
    """`no such file or folder`, with the nearest path that is there, or how a data set of the hub is named."""
    path = Path(name)
    if close := _nearest_path(path):
        return f"no such file or folder (did you mean `{close}`?)"
    like_hub = len(path.parts) == 2 and not path.suffix and not path.is_absolute()
    return "no such file or folder" + (f" (a data set of the hub is hub:{path})" if like_hub else "")


def missing(name: str) -> str:
    """What to say of a model or tokenizer that is no folder here and that the hub did not give either."""
    close = _nearest_path(Path(name).expanduser(), folders=True)
    near = f"; did you mean {close}?" if close else ""
    if not _can_be_hub_id(name):
        return f"no such folder: {name}{near}"
    return f"{name}: no such folder here, and the hub has no model of this id or is not reachable{near}"


def _nearest_path(path: Path, *, folders: bool = False) -> Path | None:
    """`path` with its first wrong part replaced by the most similar name that is there; None when none is similar."""
    known = next(folder for folder in path.parents if folder.is_dir() or folder == folder.parent)
    wrong, *rest = path.parts[len(known.parts) :] or [path.name]
    try:
        names = sorted(entry.name for entry in known.iterdir() if entry.is_dir() or not folders)
    except OSError:
        return None
    stem = Path(wrong).stem  # what two names share by their suffix is no likeness
    close = [
        name
        for name in difflib.get_close_matches(wrong, names, n=3, cutoff=0.5)
        if difflib.SequenceMatcher(None, stem, Path(name).stem).ratio() >= 0.5
    ]
    if not close:
        return None
    whole = Path(known, close[0], *rest)
    return whole if whole.exists() else known / close[0]


def _can_be_hub_id(name: str) -> bool:
    """`owner/name` or `name`, whose owner is no folder here."""
    parts = name.split("/")
    odd = name.startswith((".", "~", "/")) or name.endswith("/") or "\\" in name or len(parts) > 2
    return not odd and not (len(parts) == 2 and Path(parts[0]).is_dir())
