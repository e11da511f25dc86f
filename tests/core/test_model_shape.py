"""Parameter counts are those of the models, and planning knows public models without asking anybody."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from transformers import AutoModelForCausalLM

from longalign.core.model_shape import HUB_SHAPES, SHAPES, ModelShape
from tests.makers.other_families import FAMILIES

COUNTED_EXACTLY = (
    "Llama 2, 3", "Llama 3.1", "Qwen2, Qwen2.5", "Qwen2 with windows", "Qwen3", "Qwen3-MoE", "Mistral",
    "Mixtral", "Gemma", "Gemma 2", "Gemma 3, text", "GLM-4 (glm)", "GLM-4-0414", "Phi-3, Phi-4", "Granite 3",
    "Cohere 2", "SmolLM3",
)  # fmt: skip


def count(config: object) -> int:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("family", COUNTED_EXACTLY)
def test_a_tiny_model_of_the_family_has_exactly_the_parameters_of_its_shape(family: str) -> None:
    config = FAMILIES[family].build()
    assert ModelShape.from_config(config.to_dict(), family).parameters == count(config)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("6b", 6_243_584_000),
        ("7b", 6_738_415_616),
        ("8b", 8_030_261_248),
        ("13b", 13_015_864_320),
        ("70b", 68_976_648_192),
        ("glm-4-9b", 9_399_951_360),
        ("qwen3-4b", 4_022_468_096),
        ("qwen3-8b", 8_190_735_360),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, published: int) -> None:
    assert SHAPES[name].parameters == published


CONFIGS = {
    "7b": tf.LlamaConfig(),
    "8b": tf.LlamaConfig(num_key_value_heads=8, intermediate_size=14336, vocab_size=128256),
    "glm-4-9b": tf.GlmConfig(),
    "qwen3-4b": tf.Qwen3Config(
        hidden_size=2560, num_hidden_layers=36, num_key_value_heads=8, intermediate_size=9728, tie_word_embeddings=True
    ),
    "qwen3-8b": tf.Qwen3Config(num_hidden_layers=36, num_key_value_heads=8, intermediate_size=12288),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_named_shape_is_that_of_the_config_at_full_size(name: str) -> None:
    config = CONFIGS[name]
    assert ModelShape.from_config(config.to_dict(), name) == SHAPES[name]
    assert count(config) == SHAPES[name].parameters


def test_every_hub_id_leads_to_a_shape() -> None:
    assert set(HUB_SHAPES.values()) <= set(SHAPES)
    assert all(hub_id == hub_id.lower() and hub_id.count("/") == 1 for hub_id in HUB_SHAPES)
