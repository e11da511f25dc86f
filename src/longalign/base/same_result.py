"""Does a stage's folder already hold the requested result, and if not, what has changed?

A result is decided by the stage, the version of its code, its inputs, and the settings that decide results
(base/decides.py). Inputs count by name and content and not by location, so a run folder may be moved, or named from
another directory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from longalign.base.decides import result_settings
from longalign.base.files import fingerprint

LONGEST_VALUE = 60


def stamp_of(name: str, settings: BaseModel, inputs: Mapping[str, str], version: int) -> str:
    """The fingerprint of a result."""
    read = _read(inputs)
    return fingerprint(name, _by_content(result_settings(settings), read), sorted(read.values()), version)


def changed(
    manifest: Mapping[str, Any], name: str, settings: BaseModel, inputs: Mapping[str, str], version: int
) -> list[str]:
    """The changes since `manifest` was written, a phrase each; empty if the result is the same.

    A setting that the manifest does not know has its default there: it was added later and does not change a thing.
    Where that is not so, the settings class has `as_written`, which says what the manifest left unsaid.
    """
    if manifest["stage"] != name:
        return [f"it holds stage `{manifest['stage']}`, not `{name}`"]
    written = manifest.get("version", 1)
    if written != version:
        return [f"stage `{name}` computes differently since (version {written}, now {version})"]
    try:
        as_written = getattr(type(settings), "as_written", dict)
        before = type(settings).model_validate(as_written(manifest["settings"]))
    except ValidationError as error:
        wrong = ".".join(str(part) for part in error.errors()[0]["loc"])
        return [f"`{wrong}` = {_short(error.errors()[0].get('input'))} is no longer a valid setting"]
    was, now = _read(manifest["inputs"]), _read(inputs)
    found = list(_differences(result_settings(before), result_settings(settings), was, now))
    if not found and sorted(was.values()) != sorted(now.values()):
        names = [Path(key).name for key, value in now.items() if value not in was.values()]
        found = [f"the content of {', '.join(dict.fromkeys(names)) or 'what it reads'} has changed"]
    return found


def _read(inputs: Mapping[str, str]) -> dict[str, str]:
    return {path: f"{Path(path).name}@{content}" for path, content in inputs.items()}


def _differences(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    was: Mapping[str, str],
    now: Mapping[str, str],
    prefix: str = "",
) -> Iterator[str]:
    for key, new in after.items():
        old, name = before.get(key), f"{prefix}{key}"
        if _by_content({key: old}, was) == _by_content({key: new}, now):
            continue
        if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
            yield from _differences(old, new, was, now, f"{name}.")
        elif old == new:
            said = f" ({_short(new)})" if _names(new) else ""
            yield f"the content of `{name}`{said} has changed"
        else:
            yield f"`{name}` was {_short(old)} and is now {_short(new)}"


def _by_content(value: Any, read: Mapping[str, str]) -> Any:
    """Settings with each input's path replaced by its name and content, wherever it stands: as key, field or item."""
    if isinstance(value, dict):
        named = {key: read[key] if key in read and _names(item) else item for key, item in value.items()}
        return [[read.get(key, key), _by_content(item, read)] for key, item in named.items()]
    if isinstance(value, list):
        return [_by_content(item, read) for item in value]
    return read.get(value, value) if isinstance(value, str) else value


def _names(value: Any) -> bool:
    """Whether a setting's value is the name of what is read, or a list of names."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
