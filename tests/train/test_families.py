"""Every supported family has the same loss and gradients packed as one sequence at a time; others are refused.

The families are tiny instances of transformers' own classes with random weights, in float64.
"""

import copy
from typing import Any

import pytest
import transformers as tf

from longalign.errors import ModelError
from longalign.train.check_isolation import check_isolation
from longalign.train.model import check_supported
from tests.makers.models import tiny_config
from tests.oracles.plain_loss import plain_gradients, relative_error
from tests.train.tiny import DoubleThroughout, gradients_of, packed_inputs, sequences_of, tiny_model

EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24, "output_router_logits": False}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6}
LOCAL_AND_FULL = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "llama-3.1": (
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "qwen2": ("Qwen2Config", {}),
    "qwen2-sliding": ("Qwen2Config", LOCAL_AND_FULL | {"use_sliding_window": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 12}),
    "qwen3-moe": ("Qwen3MoeConfig", {"head_dim": 12, "num_experts": 4, "decoder_sparse_step": 1, **EXPERTS}),
    "mistral": ("MistralConfig", {"sliding_window": 6}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "gemma": ("GemmaConfig", {"head_dim": 12}),
    "gemma2-uncapped": ("Gemma2Config", LOCAL_AND_FULL | {"head_dim": 12, "attn_logit_softcapping": None}),
    "gemma3": ("Gemma3TextConfig", LOCAL_AND_FULL | {"head_dim": 12}),
    "glm": ("GlmConfig", {"head_dim": 8, "attention_bias": True}),
    "glm4": ("Glm4Config", {"head_dim": 8}),
    "glm4-moe": (
        "Glm4MoeConfig",
        {"head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, **EXPERTS},
    ),
    "phi": ("PhiConfig", {}),
    "phi3": ("Phi3Config", {"sliding_window": 6}),
    "granite": ("GraniteConfig", {"logits_scaling": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3}),
    "cohere2": ("Cohere2Config", LOCAL_AND_FULL | {"logit_scale": 0.3}),
    "olmo3": ("Olmo3Config", LOCAL_AND_FULL),
    "smollm3": ("SmolLM3Config", {}),
    "gpt2": (
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0},
    ),
    "deepseek-v3": (
        "DeepseekV3Config",
        {
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            **LATENT,
            **EXPERTS,
        },
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_separate(family: str) -> None:
    name, fields = FAMILIES[family]
    config = tiny_config(getattr(tf, name), **copy.deepcopy(fields))
    check_supported(config)
    model = tiny_model(config)
    check_isolation(model)
    model.train()
    sequences = sequences_of([13, 1, 22, 9])
    with DoubleThroughout():
        loss, expected = plain_gradients(model, sequences)
        packed_loss, found = gradients_of(model, packed_inputs(sequences))
    assert packed_loss.item() == pytest.approx(loss.item(), rel=1e-10)
    assert relative_error(found, expected) < 1e-10


LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gemma2": ("Gemma2Config", {}, "attn_logit_softcapping=50"),
    "gpt-oss": ("GptOssConfig", {"num_local_experts": 2}, "attention sinks .parameters `sinks`"),
    "llama4": ("Llama4TextConfig", {"num_hidden_layers": 4}, "layer_types: chunked_attention"),
    "qwen3-next": ("Qwen3NextConfig", {"num_hidden_layers": 4}, "layer_types: linear_attention"),
    "mamba2": ("Mamba2Config", {}, "would mix packed segments"),
    "rwkv": ("RwkvConfig", {}, "recurrent state"),
    "falcon": ("FalconConfig", {}, "do not use the attention interface"),
    "multimodal": ("Gemma3Config", {}, "join several networks"),
    "encoder": ("T5Config", {}, "not causal language models"),
    "bidirectional": ("GemmaConfig", {"use_bidirectional_attention": True}, "attention to later tokens"),
    "dropout": ("LlamaConfig", {"attention_dropout": 0.1}, "attention_dropout=0.1 is not 0"),
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
    plain = name in ("Gemma3Config", "T5Config", "Mamba2Config", "RwkvConfig", "FalconConfig", "Llama4TextConfig")
    config = config_class(**fields) if plain else tiny_config(config_class, **copy.deepcopy(fields))
    with pytest.raises(ModelError, match=reason):
        check_supported(config)


def test_a_longrope_fixed_to_its_long_factors_is_accepted_and_exact() -> None:
    config = tiny_config(tf.Phi3Config, rope_parameters=copy.deepcopy(LONGROPE | {"short_factor": [2.0] * 4}))
    config.original_max_position_embeddings = 16
    check_supported(config)
    check_isolation(tiny_model(config))
