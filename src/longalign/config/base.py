"""What all settings have in common."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator, model_validator


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _wrap_scalar(cls, values: Any) -> Any:
        """Where several values may stand one may stand alone: `--decontaminate FILE`, `text: books/`."""
        if not isinstance(values, dict):
            return values
        several = {name for name, field in cls.model_fields.items() if get_args(field.annotation)[1:] == (Ellipsis,)}
        alone = {
            name
            for name in several & values.keys()
            if isinstance(values[name], str | int | float) and not isinstance(values[name], bool)
        }
        return {name: (value,) if name in alone else value for name, value in values.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _reject_bare_flag(cls, value: Any, info: ValidationInfo) -> Any:
        """`--learning_rate` without a value reads as true, which must not become 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError(f"needs a value, not {str(value).lower()}")
        return value
