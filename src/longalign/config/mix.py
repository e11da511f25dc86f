"""How much of each row file is trained on: `data`, `mix_by` and `mix_total` of `extend`, `train` and `plan`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_serializer, model_validator

from longalign.config.base import Settings
from longalign.errors import nearest


class Portion(Settings):
    """How much of one file: a number of rows, or a weight among the files with a weight.

    With them, `epochs` is how often a row may be used at most (1 by default); alone, how often the file is used.
    """

    rows: int | None = Field(None, gt=0, description="rows to draw")
    weight: float | None = Field(None, gt=0, description="share of the files that have a weight")
    epochs: float | None = Field(None, gt=0, description="times that the file is used; with the others: at most")

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if self.rows is not None and self.weight is not None:
            raise ValueError("rows and weight exclude each other; give one of them")
        if self.rows is None and self.weight is None and self.epochs is None:
            raise ValueError("empty; give rows, weight or epochs, or null for all rows")
        return self

    @model_serializer
    def _given(self) -> dict[str, float]:
        values = {"rows": self.rows, "weight": self.weight, "epochs": self.epochs}
        return {name: value for name, value in values.items() if value is not None}


Amount = int | Portion | None
"""A number of rows, what a `Portion` says, or all rows."""


def row_files(given: Any) -> Any:
    """`a.jsonl`, `[a.jsonl, {b.jsonl: 100}]` and `{a.jsonl: null, b.jsonl: 100}` all become a mapping of amounts.

    Amounts that need no `Portion` are written without one: `{rows: 5}` is 5, `{epochs: 1}` is null.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list | tuple):
        listed: dict[str, Any] = {}
        for item in given:
            if not isinstance(item, str | Mapping):
                raise ValueError(f"{item!r} is no file; list names of files, or mappings of a name to its amount")
            for name, amount in {item: None}.items() if isinstance(item, str) else item.items():
                if name in listed:
                    raise ValueError(f"{name} is named twice; {{{name}: {{epochs: 2}}}} uses it twice")
                listed[name] = amount
        given = listed
    if not isinstance(given, Mapping):
        raise ValueError(f"{given!r}: give a file, a list of files, or a mapping of files to amounts")
    return {str(name): _amount(str(name), amount) for name, amount in given.items()}


def _amount(name: str, given: Any) -> Amount:
    if given is None:
        return None
    if isinstance(given, Portion):
        portion = given
    elif isinstance(given, Mapping):
        portion = _portion(name, given)
    else:
        try:
            if isinstance(given, bool) or int(given) != float(given) or int(given) < 0:
                raise ValueError(given)
        except (TypeError, ValueError):
            raise ValueError(
                f"{name} = {given!r}: give a number of rows, null for all, or a mapping of rows, weight, epochs"
            ) from None
        return int(given)
    if portion.epochs == 1 and (portion.rows or portion.weight):
        portion = portion.model_copy(update={"epochs": None})
    if portion == Portion(epochs=1):
        return None
    return portion.rows if portion.rows and portion.epochs is None else portion


def _portion(name: str, given: Mapping[str, Any]) -> Portion:
    try:
        return Portion.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            raise ValueError(f"{name}: unknown key `{key}`{nearest(key, list(Portion.model_fields))}") from None
        why = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"].lower()
        raise ValueError(f"{name}: {key} = {given[key]!r}: {why}" if key else f"{name}: {why}") from None


RowFiles = Annotated[dict[str, Amount], BeforeValidator(row_files)]


class MixSettings(Settings):
    """Which rows, and how much of each file."""

    data: RowFiles = Field({}, description="row files, and how much of each (docs/guide/train.md)")
    mix_by: Literal["rows", "tokens"] = Field("rows", description="what the weights in `data` are shares of")
    mix_total: int | None = Field(
        None,
        gt=0,
        description="rows (or tokens, as `mix_by` says) of all files in `data` together; default: what the files with "
        "a weight can give",
    )

    @model_validator(mode="after")
    def _a_total_is_shared_by_weights(self) -> Self:
        """Unless no file is named here: those of a recipe's arms come later."""
        if self.mix_total is not None and self.data and not any(map(is_weighted, self.data.values())):
            raise ValueError("mix_total is shared by files with a weight, and none has one; give one {weight: 1}")
        return self


def is_weighted(amount: Amount) -> bool:
    """Whether this much is decided by the other files too."""
    return isinstance(amount, Portion) and amount.weight is not None


def counted(amount: Amount) -> int | None:
    """The number of rows that is asked for, where it is one."""
    return amount.rows if isinstance(amount, Portion) else amount


def less(amount: Amount, share: float) -> Amount:
    """`share` of a number of rows; other amounts follow what there is by themselves."""
    rows = counted(amount)
    if not rows:
        return amount
    fewer = max(int(rows * share), 1)
    return amount.model_copy(update={"rows": fewer}) if isinstance(amount, Portion) else fewer
