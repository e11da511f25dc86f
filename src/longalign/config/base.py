"""What all settings have in common."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, values: Any) -> Any:
        """Where several values may stand one may stand alone: `--decontaminate FILE`, `text: books/`."""
        if not isinstance(values, dict):
            return values
        several = {name for name, field in cls.model_fields.items() if get_args(field.annotation)[1:] == (Ellipsis,)}
        return {k: (v,) if k in several and isinstance(v, str | int | float) else v for k, v in values.items()}
