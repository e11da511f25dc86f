"""Values as rows hold them: text, lists, JSON in a string, the nulls that Arrow fills in. Errors name the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from longalign.errors import DataError

TEXT_PARTS = (None, "text", "input_text", "output_text")


def kind_of(value: object) -> str:
    """How a message calls a value of the wrong type."""
    return "missing" if value is None else f"a {type(value).__name__}"


def text_of(value: object, where: str, field: str) -> str:
    """The value of a field that must be text. Raises `DataError` with file:line and field."""
    if not isinstance(value, str):
        raise DataError(f"{where}: field `{field}` is {kind_of(value)}; it must be text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: field `{field}` holds half a character ({value[error.start]!a} at {error.start}); mend the text"
        ) from None
    return value


def content_of(value: object, where: str, field: str) -> str:
    """The content of a message: text, or a list of text parts, which are joined by line breaks."""
    if not isinstance(value, list):
        return text_of(value, where, field)
    texts = []
    for position, part in enumerate(value):
        place = f"{field}[{position}]"
        if isinstance(part, str):
            texts.append(text_of(part, where, place))
            continue
        if not isinstance(part, Mapping):
            raise DataError(f"{where}: field `{place}` is {kind_of(part)}; it must be text or {{`type`, `text`}}")
        if part.get("type") not in TEXT_PARTS:
            raise DataError(f"{where}: field `{place}.type` is {part['type']!r}; only text can be trained")
        texts.append(text_of(part.get("text"), where, f"{place}.text"))
    return "\n".join(texts)


def json_of(value: object, where: str, field: str) -> Any:
    """A value that may be written as JSON in a string. Raises `DataError` when such a string is broken."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: field `{field}` is not JSON ({error}); write it with a JSON library") from None


def list_of(value: object, where: str, field: str, *, empty: bool = False) -> list[Any]:
    """A list of turns; also one that is JSON in a string, or Arrow's form of one: a list for each field."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = json_of(value, where, field)
    if isinstance(value, Mapping):
        value = _turned(value)
    if not isinstance(value, list):
        raise DataError(f"{where}: field `{field}` is {kind_of(value)}; it must be a list of turns")
    if not value and not empty:
        raise DataError(f"{where}: field `{field}` is empty; it needs at least one question and its answer")
    return value


def _turned(columns: Mapping[str, Any]) -> object:
    """A list of mappings for a mapping of lists of one length; any other mapping as it is."""
    lists = [column for column in columns.values() if isinstance(column, list)]
    if len(lists) < len(columns) or len({len(column) for column in lists}) != 1:
        return columns
    return [dict(zip(columns, turn, strict=True)) for turn in zip(*lists, strict=True)]


def flag_of(value: object, where: str, field: str) -> bool:
    """A flag or weight that can only be off (0, false) or on (1, true)."""
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    raise DataError(f"{where}: field `{field}` is {value!r:.40}; supported are 0 or false (not trained) and 1 or true")


def without_nulls(value: Any) -> Any:
    """`value` without the fields that are null, at any depth: Arrow gives every mapping of a column the same fields."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, (list, tuple)) else value
