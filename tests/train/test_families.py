"""Every family trains as the definition says, in the layout that running it proves; the guide's table says the same.

The families are tiny instances of transformers' own classes with random weights, in float64.
"""

import copy
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from longalign.errors import ModelError
from longalign.train.admit import admit
from longalign.train.check_isolation import check_isolation
from longalign.train.model import check_supported
from longalign.train.own_trainer import prepare_model
from longalign.train.perplexity import perplexity_by_position
from tests.makers.models import tiny_config
from tests.makers.other_families import FAMILIES
from tests.train.runs import tiny_store
from tests.train.tiny import gradients_of, packed_inputs, padded_inputs, sequences_of, tiny_model

SCRIPT = Path(__file__).parents[2] / "docs/reference/families.py"
QUICK = (
    "Llama 2, 3", "Qwen2 with windows", "Qwen3-MoE", "Gemma 2", "GPT-2", "Falcon", "DeepSeek-V3", "DeepSeek-V3.2",
    "gpt-oss", "Granite 3", "Cohere 2", "Qwen3.5, text", "LFM2", "RWKV", "Gemma 3", "Llama 4",
)  # fmt: skip


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return {row["family"]: row for row in json.loads(SCRIPT.with_name("families.json").read_text())["families"]}


def assert_as_recorded(name: str, script: dict[str, Any], recorded: dict[str, Any]) -> None:
    if any(script["find_spec"](kernel) for kernel in script["KERNELS"]):
        pytest.skip("the table is one without the kernels of recurrent layers")
    found = script["outcome"](FAMILIES[name])
    assert found.exact or found.trained == "refused", found
    assert (found.trained, script["plainly"](found.reason)) == (
        recorded[name]["trained"],
        script["plainly"](recorded[name]["reason"]),
    ), "run `make families`"


@pytest.mark.parametrize("name", QUICK)
def test_a_family_trains_as_the_definition_says(name: str, script: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert_as_recorded(name, script, recorded)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in QUICK])
def test_every_other_family_too(name: str, script: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert_as_recorded(name, script, recorded)


def test_the_guide_has_what_was_recorded(script: dict[str, Any]) -> None:
    data = json.loads(SCRIPT.with_name("families.json").read_text())
    outcomes = [script["Outcome"](**row) for row in data["families"]]
    assert [o.family for o in outcomes] == list(FAMILIES)
    assert script["page"](outcomes, data["transformers"]) == script["PAGE"].read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Qwen3-Next", "without `causal_conv1d`.*strategy sorted or padded trains it"),
        ("LFM2", "strategy sorted or padded trains it"),
        ("Falcon", "do not use the attention interface.*strategy sorted or padded"),
        ("Llama 4, text", "attn_temperature_tuning=True scales attention by the place.*strategy sorted or padded"),
        ("MiniMax-Text-01", "segments leak.*strategy sorted or padded"),
    ],
)
def test_a_strategy_of_packs_is_refused_with_the_way_out(name: str, reason: str) -> None:
    model = tiny_model(FAMILIES[name].build())
    for strategy in ("balanced", "packed"):
        with pytest.raises(ModelError, match=reason):
            admit(model, strategy)
    assert admit(model, "sorted").layout == "rows"
    sequences = sequences_of([5, 9])
    with pytest.raises(ModelError, match="one sequence a row"):
        gradients_of(model, packed_inputs(sequences))
    assert gradients_of(model, padded_inputs(sequences))[0] > 0
    with pytest.raises(ModelError, match="sequence_parallel 1"):
        admit(tiny_model(FAMILIES[name].build()), "sorted", shared=True)


def test_ones_own_trainer_and_measurements_use_the_layout_that_a_model_allows(tmp_path: Path) -> None:
    """A prepared model takes rows; perplexity by position, one sequence at a time, needs no check."""
    from longalign.train.admit import measure_in_rows, takes_rows

    config = FAMILIES["LFM2"].build()
    prepared = prepare_model(tf.AutoModelForCausalLM.from_config(config))
    assert takes_rows(prepared)
    assert not takes_rows(prepare_model(tf.AutoModelForCausalLM.from_config(tiny_config())))
    for name in ("LFM2", "DeepSeek-V3.2", "Falcon", "Llama 2, 3"):
        model: Any = tiny_model(FAMILIES[name].build(), dtype=torch.float32)
        measure_in_rows(model)
        found = perplexity_by_position(model, tiny_store(tmp_path / name), most_tokens=200)
        assert all(value and value > 1 for value in found.values())
        assert takes_rows(model) == (name != "Llama 2, 3")


def test_ranks_can_share_a_sequence_where_attention_alone_joins_tokens() -> None:
    for name in ("Llama 2, 3", "gpt-oss", "Gemma 2", "DeepSeek-V3", "Gemma 3"):
        admit(tiny_model(FAMILIES[name].build()), "balanced", shared=True)


LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "encoder": ("T5Config", {}, "not causal language models"),
    "bidirectional": ("GemmaConfig", {"use_bidirectional_attention": True}, "attention to later tokens"),
    "dropout": ("LlamaConfig", {"attention_dropout": 0.1}, "attention_dropout=0.1 is not 0"),
    "jitter": ("MixtralConfig", {"router_jitter_noise": 0.1}, "router_jitter_noise=0.1 is not 0"),
    "dynamic-rope": (
        "LlamaConfig",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        "rope_type 'dynamic' changes every position's encoding",
    ),
    "longrope": ("Phi3Config", {"rope_parameters": LONGROPE}, "copying `long_factor` over `short_factor`"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_cannot_be_exact_is_refused_with_its_reason(family: str) -> None:
    name, fields, reason = REFUSED[family]
    config_class = getattr(tf, name)
    config = config_class(**fields) if name == "T5Config" else tiny_config(config_class, **copy.deepcopy(fields))
    with pytest.raises(ModelError, match=reason):
        check_supported(config)


def test_a_longrope_fixed_to_its_long_factors_is_accepted_and_exact() -> None:
    config = tiny_config(tf.Phi3Config, rope_parameters=copy.deepcopy(LONGROPE | {"short_factor": [2.0] * 4}))
    config.original_max_position_embeddings = 16
    check_supported(config)
    check_isolation(tiny_model(config))
