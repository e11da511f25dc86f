"""The base class of all settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True, eq=False)
class NameIn:
    """Marks a setting that names an entry of `mapping`, also one that was added to it after this package was made."""

    mapping: Mapping[str, object]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name not in self.mapping:
            raise PydanticCustomError("unknown_name", "choose one of {names}", {"names": ", ".join(self.mapping)})
        return name


READ_AS_TRUTH = {"off": False, "no": False, "on": True, "yes": True}
"""Words that YAML reads as true or false, also where they are the names of choices."""


@dataclass(frozen=True)
class Alias:
    """An earlier name of a setting: its new name, and the meaning of its values under that name."""

    new: str
    value: Callable[[Any], Any] = lambda value: value


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys. `aliases`: earlier names of settings, still read."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    aliases: ClassVar[Mapping[str, Alias]] = {}

    @model_validator(mode="before")
    @classmethod
    def _read_as_written(cls, values: Any) -> Any:
        """Earlier names become the present ones, `off` is a choice again where it names one, and a single value is
        accepted wherever a list is expected: `--decontaminate FILE`, `text: books/`.
        """
        if not isinstance(values, dict):
            return values
        renamed = {}
        for name, value in values.items():
            if alias := cls.aliases.get(name):
                if alias.new in values:
                    raise ValueError(f"{name} is the earlier name of {alias.new}; give {alias.new} alone")
                renamed[alias.new] = alias.value(value)
                note_alias(name, alias.new)
            else:
                renamed[name] = value
        chosen = {name: cls._choice(name, value) for name, value in renamed.items()}
        return {name: (value,) if cls._is_alone(name, value) else value for name, value in chosen.items()}

    @classmethod
    def _choice(cls, name: str, value: Any) -> Any:
        """`quality: off` reads as false in YAML; the setting means the word."""
        field = cls.model_fields.get(name)
        if field is None or not isinstance(value, bool):
            return value
        choices = get_args(field.annotation)
        return next((word for word, truth in READ_AS_TRUTH.items() if truth is value and word in choices), value)

    @classmethod
    def _is_alone(cls, name: str, value: Any) -> bool:
        """Whether `value` is one value of a setting that holds several."""
        field = cls.model_fields.get(name)
        several = field is not None and get_args(field.annotation)[1:] == (Ellipsis,)
        return several and isinstance(value, str | int | float) and not isinstance(value, bool)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_bare_flag(cls, value: Any, info: ValidationInfo) -> Any:
        """`--learning_rate` without a value reads as true, which must not become 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError(f"needs a value, not {str(value).lower()}")
        return value


@cache
def note_alias(old: str, new: str) -> None:
    """Said once a process."""
    from longalign.base.progress import say  # needs rich, which few commands that read settings do

    say(f"note: {old} is now called {new}; the earlier name is still read")
