"""Settings of a whole recipe."""

from __future__ import annotations

from typing import Any

from pydantic import Field, TypeAdapter, field_validator, model_validator

from longalign.config.base import Settings
from longalign.config.data import DataSettings
from longalign.config.eval import EvalSettings
from longalign.config.train import ExtendSettings, TrainSettings


class RunTrainSettings(TrainSettings):
    """`train` in a recipe: common settings, and the arms that are compared."""

    arms: dict[str, dict[str, Any]] = Field(
        {}, description="name -> settings that differ; `data` keys may name sets of the `data` section"
    )


class AssumedLengths(Settings):
    """Assumed contents of a file that does not exist yet, for `--plan-only`: number and lengths of rows."""

    rows: int | None = Field(None, gt=0, description="rows or documents it holds; give this or `tokens`")
    tokens: int | None = Field(None, gt=0, description="tokens it holds")
    lengths: tuple[int, int] | None = Field(
        None, description="shortest and longest row in tokens, spread evenly; default: chats, log-normal, median 900"
    )


class RunSettings(Settings):
    """One recipe: the five stages over one model."""

    name: str = Field(description="name of the run; default folder is runs/NAME")
    model: str = Field("builtin:tiny-base", description="the short-context model to start from")
    seeds: tuple[int, ...] = Field((0,), description="every arm is trained and evaluated once per seed")
    extend: ExtendSettings | tuple[ExtendSettings, ...] | None = Field(
        None,
        description="leave out when the model already has the window; a list: one after another, each from the last",
    )
    data: dict[str, DataSettings] = Field({}, description="row sets to build, by name")
    train: RunTrainSettings = Field(RunTrainSettings(), description="what all arms share, and the arms")
    eval: EvalSettings = Field(EvalSettings(), description="what every model is measured on")
    processes_per_node: int = Field(
        1, gt=0, description="processes that extend and train run in, one an accelerator; started through torchrun"
    )
    machine: str = Field(
        "a100-80g", description="what `--plan-only` times: a100-80g (the paper's), h100-80g, h200 or cpu"
    )
    ranks: int | None = Field(
        None, gt=0, description="for `--plan-only`: accelerators over all nodes; default: processes_per_node"
    )
    assume: dict[str, AssumedLengths] = Field(
        {}, description="for `--plan-only`: contents of files and folders that do not exist yet"
    )
    throughput_rows: int = Field(
        0, ge=0, description="rows of the last arm to time every batching strategy on; 0: do not"
    )
    full: dict[str, Any] = Field({}, description="dotted overrides that `--full` applies")

    @property
    def extensions(self) -> tuple[ExtendSettings, ...]:
        """The stages of `extend`, in order."""
        if self.extend is None:
            return ()
        return (self.extend,) if isinstance(self.extend, ExtendSettings) else self.extend

    @field_validator("extend", mode="before")
    @classmethod
    def _complaints_name_the_key(cls, value: Any) -> Any:
        """Those of a union would name its members."""
        if isinstance(value, list | tuple):
            return TypeAdapter(tuple[ExtendSettings, ...]).validate_python(value) or None
        return value if value is None else ExtendSettings.model_validate(value)

    @model_validator(mode="before")
    @classmethod
    def _rows_are_counted_by_the_models_tokenizer(cls, values: Any) -> Any:
        """Unless a set names another: a bundled tokenizer would count a real model's rows wrongly."""
        if not isinstance(values, dict) or not isinstance(values.get("data"), dict) or "model" not in values:
            return values
        default = {"tokenizer": values["model"]}
        return values | {"data": {k: default | v if isinstance(v, dict) else v for k, v in values["data"].items()}}
