"""Marks on settings: does one decide a stage's result, its execution or its reporting? Only the first restarts a stage.

    concurrency: int = Field(8, description="calls in flight at once", json_schema_extra=EXECUTION)

A setting without a mark decides the result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, cast

from pydantic import BaseModel

Decides = Literal["result", "execution", "reporting"]
EXECUTION: dict[str, Any] = {"decides": "execution"}
REPORTING: dict[str, Any] = {"decides": "reporting"}


def decides(settings: type[BaseModel], name: str) -> Decides:
    """What field `name` of a settings class decides."""
    extra = settings.model_fields[name].json_schema_extra
    return cast(Decides, extra.get("decides", "result")) if isinstance(extra, Mapping) else "result"


def result_settings(settings: BaseModel) -> dict[str, Any]:
    """The settings that decide the result, as JSON-able values; those of nested sections likewise.

    A settings class may have `also_decide`: names of others that do so given the rest.
    """
    plain = settings.model_dump(mode="json")
    also: Collection[str] = getattr(settings, "also_decide", ())
    kept: dict[str, Any] = {}
    for name in type(settings).model_fields:
        if name in also or decides(type(settings), name) == "result":
            value = getattr(settings, name)
            kept[name] = result_settings(value) if isinstance(value, BaseModel) else plain[name]
    return kept
