"""Reads a recipe: one YAML file, `--train.learning_rate 1e-4` overrides, and where each value came from.

Unknown keys are refused with the nearest valid name; every complaint names the file and the key.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from longalign.config import RunSettings, Settings
from longalign.config.base import note_alias
from longalign.config.mix import row_files
from longalign.config.questions import PRESETS
from longalign.errors import ConfigError, nearest

T = TypeVar("T", bound=Settings)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, mapping by mapping; a mapping by number (`extend.0.window`) changes sections of a list."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            out[key] = merge(old, value)
        elif isinstance(value, Mapping) and isinstance(old, list) and _sections(old):
            out[key] = _merge_list(key, old, value)
        else:
            out[key] = value
    return out


def _merge_list(key: str, base: Sequence[Any], over: Mapping[str, Any]) -> list[Any]:
    """Sections of a list, with those replaced that `over` names by number."""
    names = [str(number) for number in range(len(base))]
    if wrong := next((name for name in over if str(name) not in names), None):
        raise ConfigError(
            f"`{key}.{wrong}`: `{key}` is a list of {len(base)}; say which by its number, such as {key}.0.{wrong}"
            if not str(wrong).isdigit()
            else f"`{key}.{wrong}`: `{key}` has {names[0]} to {names[-1]}"
        )
    changes = {str(name): value for name, value in over.items()}
    return [merge(own, changes[name]) if name in changes else own for name, own in zip(names, base, strict=True)]


def _sections(value: Any) -> bool:
    """Whether it is a list of mappings."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def build(cls: type[T], values: Mapping[str, Any], where: str | Callable[[str], str]) -> T:
    """`cls(**values)`, with each complaint as one readable line naming the field and `where` it was given.

    `where` is one place for all, or says it for a dotted key.
    """
    place = where if callable(where) else lambda key: where
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(cls, dict(e), place) for e in error.errors()[:3])) from None


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """`["--train.learning_rate", "1e-4"]` -> `{"train.learning_rate": 1e-4}`; `--a.b=c` is also read.

    An option without a value is true: `--activation_offload`. One that is given several times becomes `Repeated`.
    """
    seen: dict[str, list[Any]] = {}
    rest = list(arguments)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise ConfigError(f"unexpected argument `{flag}`; overrides look like --train.learning_rate 1e-4")
        key, separator, value = flag[2:].partition("=")
        if not separator:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        seen.setdefault(key.replace("-", "_"), []).append(parse_value(key, value))
    return {key: Repeated(values) if len(values) > 1 else values[0] for key, values in seen.items()}


def parse_value(key: str, value: str) -> Any:
    """The YAML value of option `key`."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--{key}: `{value}` cannot be read ({getattr(error, 'problem', error)})") from None


class Repeated(list[Any]):
    """The values of an option that was given several times. Settings that hold several values take all of them, of
    others the last one counts (`settle`)."""


def settle(cls: type[Settings], tree: Mapping[str, Any]) -> dict[str, Any]:
    """`tree`, settings of `cls`, with each `Repeated` as its setting takes it."""
    settled: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Repeated):
            settled[key] = [each for given in value for each in (given if isinstance(given, list) else [given])]
            if not _holds_several(cls, key):
                settled[key] = value[-1]
        elif isinstance(value, Mapping):
            settled[key] = _settle_below(cls, key, value)
        else:
            settled[key] = value
    return settled


def _settle_below(cls: type[Settings], key: str, value: Mapping[str, Any]) -> dict[str, Any]:
    field = cls.model_fields.get(cls.aliases[key].new if key in cls.aliases else key)
    inner = cls if key == "arms" else _settings_in(field.annotation) if field else None  # arms hold such settings too
    if field is None or typing.get_origin(field.annotation) is dict:  # names, then settings
        return {
            name: settle(inner or Settings, own) if isinstance(own, Mapping) else _last(own)
            for name, own in value.items()
        }
    return settle(inner or Settings, value)


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, Repeated) else value


def _holds_several(cls: type[Settings], key: str) -> bool:
    """Whether a setting takes a list of any length: of values, or of row files."""
    field = cls.model_fields.get(cls.aliases[key].new if key in cls.aliases else key)
    if field is None:
        return False
    kinds = [field.annotation, *typing.get_args(field.annotation)]
    return any(typing.get_args(kind)[1:] == (Ellipsis,) for kind in kinds) or row_files in [
        getattr(mark, "func", None) for mark in field.metadata
    ]


def nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` -> `{"a": {"b": 1}}`."""
    out: dict[str, Any] = {}
    for key, value in dotted.items():
        *parents, leaf = key.split(".")
        node: dict[str, Any] = {leaf: value}
        for parent in reversed(parents):
            node = {parent: node}
        out = merge(out, node)
    return out


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; `ConfigError` names the file and line of what cannot be read."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe file; see recipes/ for examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of sections (name, model, data, train, eval)")
    return values


def load_run(
    path: Path, overrides: Mapping[str, Any], *, full: bool = False, documents: Sequence[str] | None = None
) -> tuple[RunSettings, dict[str, tuple[Any, str]]]:
    """A recipe with overrides applied, and for every leaf `dotted key -> (value, source)`.

    `documents` replaces the documents of every data set, and is added to the text of `extend`.
    """
    recipe = read_yaml(path)
    layers = [(str(path), recipe)]
    if full:
        layers.append(("--full", nest(recipe.get("full") or {})))
    if documents:
        layers.append(("--documents", _own_documents(recipe, documents)))
    layers.append(("command line", settle(RunSettings, nest(overrides))))
    layers = [(name, _in_present_names(layer)) for name, layer in layers]
    values: dict[str, Any] = {}
    for _, layer in layers:
        values = merge(values, layer)
    owners = {key: name for name, layer in layers for key in leaves(layer)}  # the last layer that holds a key
    settings = build(RunSettings, values, lambda key: owners.get(key, str(path)))
    resolved = leaves(settings.model_dump(mode="json"))
    lists = {key: owners[key] for key, value in leaves(values).items() if value and key not in resolved}
    return settings, {key: (value, _owner(key, owners, lists, resolved)) for key, value in resolved.items()}


def _owner(key: str, owners: Mapping[str, str], lists: Mapping[str, str], resolved: Mapping[str, Any]) -> str:
    """The layer that holds a key, the list of files that it was read from, or the preset of its section."""
    inside = next((name for parent, name in lists.items() if key.startswith(f"{parent}.")), "default")
    section, _, name = key.rpartition(".")
    if inside == "default" and name in PRESETS["paper"] and (preset := resolved.get(f"{section}.preset")):
        inside = f"preset {preset}"
    return owners.get(key, inside)


def _in_present_names(layer: Mapping[str, Any], cls: type[Settings] = RunSettings) -> dict[str, Any]:
    """A layer with the present names of its settings, so that one layer can override another by either name.

    A layer that gives both names of a setting keeps both, for the complaint.
    """
    renamed: dict[str, Any] = {}
    for key, given in layer.items():
        value = given
        alias, name = cls.aliases.get(key), key
        if alias is not None and alias.new not in layer:
            name, value = alias.new, alias.value(value)
            note_alias(key, name)
        field = cls.model_fields.get(name)
        inner = _settings_in(field.annotation) if field else None
        if inner is not None and _sections(value):
            renamed[name] = [_in_present_names(own, inner) for own in value]
        elif inner is None or not isinstance(value, Mapping):
            renamed[name] = value
        elif field is not None and typing.get_origin(field.annotation) is dict:  # names of sets, then settings
            renamed[name] = {
                each: _in_present_names(own, inner) if isinstance(own, Mapping) else own for each, own in value.items()
            }
        else:
            renamed[name] = _in_present_names(value, inner)
    return renamed


def _own_documents(recipe: Mapping[str, Any], documents: Sequence[str]) -> dict[str, Any]:
    """The user's documents: they replace those of every data set and are added to the text of `extend`."""
    own: dict[str, Any] = {"data": {name: {"documents": list(documents)} for name in recipe.get("data") or {}}}
    if extend := recipe.get("extend"):
        stages = [_with_text(stage, documents) for stage in (extend if isinstance(extend, list) else [extend])]
        own["extend"] = {str(n): stage for n, stage in enumerate(stages)} if isinstance(extend, list) else stages[0]
    return own


def _with_text(stage: Mapping[str, Any], documents: Sequence[str]) -> dict[str, Any]:
    text = stage.get("text") or []
    return {"text": [*([text] if isinstance(text, str) else text), *documents]}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every non-mapping value of a tree by its dotted key; sections of a list are numbered."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            out |= leaves(value, f"{prefix}{key}.")
        elif _sections(value):
            out |= leaves({str(number): own for number, own in enumerate(value)}, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def _explain(cls: type[Settings], error: Mapping[str, Any], place: Callable[[str], str]) -> str:
    path = [str(part) for part in error["loc"]]
    name, value = ".".join(path), error.get("input")
    where = place(next(iter(leaves({name: value}))))  # an unknown section counts as given where its first key was
    if error["type"] == "extra_forbidden":
        parent = "".join(f"{part}." for part in path[:-1])
        valid = list(_settings_at(cls, path[:-1]).model_fields)
        return f"{where}: unknown key `{name}`{nearest(path[-1], valid, parent)}"
    if error["type"] == "missing":
        return f"{place(name)}: `{name}` is required"
    if error["type"] == "value_error":  # from a validator of the settings class, about several keys at once
        return f"{place(name)}: {f'{name}: ' if name else ''}{error['ctx']['error']}"
    if error["type"] == "model_type":
        return f"{where}: `{name}` = {value!r}: this is a section, a mapping of settings"
    return f"{where}: `{name}` = {value!r}: {error['msg'].lower()}"


def _settings_at(cls: type[Settings], path: Sequence[str]) -> type[Settings]:
    """The settings class that a path of keys leads to; mapping keys such as set names are passed over."""
    current = cls
    for part in path:
        field = current.model_fields.get(part)
        nested = _settings_in(field.annotation) if field else None
        current = nested or current
    return current


def _settings_in(annotation: Any) -> type[Settings] | None:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return annotation
    if typing.get_origin(annotation) in (dict, types.UnionType, typing.Union):
        return next((found for found in map(_settings_in, typing.get_args(annotation)) if found), None)
    return None
