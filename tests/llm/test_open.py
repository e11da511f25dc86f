"""A spec opens the model it names; what has no known form says which forms there are."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from longalign.config import DataSettings
from longalign.data.build import build
from longalign.data.source import read_rows
from longalign.errors import ConfigError, ModelError
from longalign.llm.base import LanguageModel, Outcome, Request
from longalign.llm.offline import OfflineModel
from longalign.llm.open import PROVIDERS, OpenOptions, Provider, check_model, is_endpoint, open_model, provider_of


@pytest.mark.parametrize(
    ("spec", "endpoint"),
    [
        ("offline", False),
        ("offline-judge", False),
        ("openai:org/model:free@http://localhost:8000/v1", True),
        ("anthropic:claude", True),
        ("hf:some/id", False),
        ("some/id", False),
        ("builtin:tiny-base", False),
        ("", False),
    ],
)
def test_only_what_is_behind_http_may_cost_money(spec: str, endpoint: bool) -> None:
    assert is_endpoint(spec) == endpoint


@pytest.mark.parametrize("spec", ["", "offline:1", "offline-writer"])
def test_a_spec_without_a_known_form_names_the_forms(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"no known form; use `offline`, .*`openai:MODEL@BASE_URL`, "):
        provider_of(spec)


def test_a_model_that_is_not_here_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no-such-model: no such model directory"):
        check_model("no-such-model")
    for spec in ("offline", "builtin:tiny-base", "hf:some/id", "some/id", str(tmp_path)):
        check_model(spec)


class Shouting:
    """A provider's model: what to add looks like (docs/guide/extend-it.md)."""

    batched = False

    def __init__(self, name: str, options: OpenOptions) -> None:
        self.name, self.concurrency, self._model = name, options.concurrency, OfflineModel()

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        yield from self._model.complete(requests)


def open_shouting(spec: str, options: OpenOptions) -> LanguageModel:
    return Shouting(spec.removeprefix("shout:"), options)


def test_a_provider_is_added_by_one_function_and_one_line(tmp_path: Path) -> None:
    PROVIDERS["shout:"] = Provider("`shout:NAME`", open_shouting, endpoint=True)
    try:
        assert is_endpoint("shout:loud")
        model = open_model("shout:loud", concurrency=3)
        assert isinstance(model, Shouting)
        assert (model.name, model.concurrency) == ("loud", 3)
        settings = DataSettings(
            preset="paper", documents=("builtin:chinese",), llm="shout:loud", rows=2, min_length_tokens=100,
            max_length_tokens=4096,
        )  # fmt: skip
        report = build(settings, tmp_path / "long.jsonl")
        assert report["spend"]["calls"] == 4
        assert report["spend"]["spent_usd"] is None  # an endpoint without a price: unknown, not free
        assert len(list(read_rows(tmp_path / "long.jsonl"))) == 2
    finally:
        del PROVIDERS["shout:"]
