"""Tiny configs of the model families that transformers knows, each with random weights in mind.

Every entry: the name people use, the config class, and its fields beyond those of `tiny_config`. A family that joins
several networks has a config class of its own and takes `text_config`.
"""

from __future__ import annotations

import copy
import importlib
from dataclasses import dataclass, field
from typing import Any

from tests.makers.models import VOCABULARY, tiny_config

EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6}
LOCAL_AND_FULL = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "attn_pdrop": 0, "embd_pdrop": 0, "resid_pdrop": 0}
DEEPSEEK = {
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    **LATENT,
    **EXPERTS,
}
GLM_MOE = {"head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, **EXPERTS}


@dataclass(frozen=True)
class Family:
    """One line of the table of families."""

    name: str
    config: str
    fields: dict[str, Any] = field(default_factory=dict)
    vision: str = ""
    """Field that holds the config of what sees, for wrappers; its sizes are in `vision_fields`."""
    vision_fields: dict[str, Any] = field(default_factory=dict)
    text_config: str = ""
    """Class of `text_config` where this is a wrapper."""

    def build(self) -> Any:
        """Its tiny config."""
        fields = copy.deepcopy(self.fields)
        if not self.text_config:
            return tiny_config(_class(self.config), **fields)
        text = tiny_config(_class(self.text_config), **fields)
        return _class(self.config)(text_config=text.to_dict(), **{self.vision: copy.deepcopy(self.vision_fields)})


def _class(name: str) -> type:
    transformers = importlib.import_module("transformers")
    found: type = getattr(transformers, name)
    return found


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
DECODERS = (
    Family("Llama 2, 3", "LlamaConfig"),
    Family("Llama 3.1", "LlamaConfig", {"rope_parameters": LLAMA3}),
    Family("Llama 4, text", "Llama4TextConfig", {"head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48}),
    Family("Mistral", "MistralConfig", {"sliding_window": 6}),
    Family("Ministral 3", "Ministral3Config", {"head_dim": 8}),
    Family("Mixtral", "MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    Family("Qwen2, Qwen2.5", "Qwen2Config"),
    Family("Qwen2 with windows", "Qwen2Config", LOCAL_AND_FULL | {"use_sliding_window": True}),
    Family("Qwen2-MoE", "Qwen2MoeConfig", {"num_experts": 4, "shared_expert_intermediate_size": 24, **EXPERTS}),
    Family("Qwen3", "Qwen3Config", {"head_dim": 12}),
    Family("Qwen3-MoE", "Qwen3MoeConfig", {"head_dim": 12, "num_experts": 4, "decoder_sparse_step": 1, **EXPERTS}),
    Family("Gemma", "GemmaConfig", {"head_dim": 12}),
    Family("Gemma 2", "Gemma2Config", LOCAL_AND_FULL | {"head_dim": 12, "query_pre_attn_scalar": 12}),
    Family("Gemma 3, text", "Gemma3TextConfig", LOCAL_AND_FULL | {"head_dim": 12}),
    Family(
        "Gemma 3n, text",
        "Gemma3nTextConfig",
        LOCAL_AND_FULL
        | {
            "head_dim": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 0,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0, 0.0],
            "intermediate_size": [48, 48],
        },
    ),
    Family(
        "Gemma 4, text",
        "Gemma4TextConfig",
        LOCAL_AND_FULL
        | {
            "head_dim": 8,
            "global_head_dim": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 0,
        },
    ),
    Family("Phi", "PhiConfig"),
    Family("Phi-3, Phi-4", "Phi3Config", {"sliding_window": 6}),
    Family("Phi-MoE", "PhimoeConfig", {"num_local_experts": 4, "router_jitter_noise": 0.0, "input_jitter_noise": 0.0}),
    Family("GPT-2", "GPT2Config", GPT2),
    Family("GPT-NeoX, Pythia", "GPTNeoXConfig"),
    Family("GPT-J", "GPTJConfig", GPT2 | {"rotary_dim": 4}),
    Family("Falcon", "FalconConfig"),
    Family("Falcon with ALiBi", "FalconConfig", {"alibi": True}),
    Family("BLOOM", "BloomConfig", {"n_layer": 2, "n_head": 4}),
    Family("MPT", "MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 2}),
    Family("OPT", "OPTConfig", {"ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0}),
    Family("StableLM", "StableLmConfig"),
    Family("StarCoder2", "Starcoder2Config", {"sliding_window": 6, "residual_dropout": 0.0, "embedding_dropout": 0.0}),
    Family("GLM-4 (glm)", "GlmConfig", {"head_dim": 8, "attention_bias": True}),
    Family("GLM-4-0414", "Glm4Config", {"head_dim": 8}),
    Family("GLM-4.5", "Glm4MoeConfig", GLM_MOE),
    Family(
        "GLM-5 (glm_moe_dsa)",
        "GlmMoeDsaConfig",
        {**DEEPSEEK, "index_topk": 8, "index_n_heads": 16, "index_head_dim": 8},
    ),
    Family("DeepSeek-V2", "DeepseekV2Config", DEEPSEEK),
    Family("DeepSeek-V3", "DeepseekV3Config", DEEPSEEK),
    Family(
        "DeepSeek-V3.2", "DeepseekV32Config", {**DEEPSEEK, "index_topk": 8, "index_n_heads": 16, "index_head_dim": 8}
    ),
    Family(
        "gpt-oss", "GptOssConfig", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, **LOCAL_AND_FULL}
    ),
    Family("OLMo", "OlmoConfig"),
    Family("OLMo 2", "Olmo2Config"),
    Family("OLMo 3", "Olmo3Config", LOCAL_AND_FULL),
    Family("OLMoE", "OlmoeConfig", {"num_experts": 4, "num_experts_per_tok": 2}),
    Family(
        "Granite 3", "GraniteConfig", {"logits_scaling": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3}
    ),
    Family("Granite MoE", "GraniteMoeConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    Family("Cohere", "CohereConfig"),
    Family("Cohere 2", "Cohere2Config", LOCAL_AND_FULL | {"logit_scale": 0.3}),
    Family("SmolLM3", "SmolLM3Config"),
    Family("MiniCPM3", "MiniCPM3Config", {"num_key_value_heads": 4, **LATENT}),
    Family("MiniMax-M2", "MiniMaxM2Config", {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),
    Family("Nemotron", "NemotronConfig"),
    Family("EXAONE 4", "Exaone4Config", LOCAL_AND_FULL),
    Family("ERNIE 4.5", "Ernie4_5Config", {"head_dim": 8}),
    Family(
        "ERNIE 4.5 MoE",
        "Ernie4_5_MoeConfig",
        {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_layer_start_index": 1},
    ),
    Family("Hunyuan", "HunYuanDenseV1Config", {"head_dim": 8}),
    Family("Hunyuan MoE", "HunYuanMoEV1Config", {"head_dim": 8, "num_experts": 4, "moe_topk": 2}),
    Family("Seed-OSS", "SeedOssConfig", {"head_dim": 8, "attention_dropout": 0.0, "residual_dropout": 0.0}),
    Family("Apertus", "ApertusConfig"),
    Family("Arcee", "ArceeConfig"),
    Family(
        "dots.llm1",
        "Dots1Config",
        {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, **LOCAL_AND_FULL, **EXPERTS},
    ),
    Family(
        "LongCat-Flash",
        "LongcatFlashConfig",
        {
            "num_layers": 1,
            "num_key_value_heads": 4,
            "ffn_hidden_size": 48,
            "expert_ffn_hidden_size": 24,
            "n_routed_experts": 4,
            "zero_expert_num": 1,
            "moe_topk": 2,
            "head_dim": 4,
            **LATENT,
        },
    ),
    Family(
        "DBRX",
        "DbrxConfig",
        {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 2,
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
            "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
        },
    ),
    Family("nanochat", "NanoChatConfig"),
    Family(
        "Gemma 2 without its cap", "Gemma2Config", LOCAL_AND_FULL | {"head_dim": 12, "attn_logit_softcapping": None}
    ),
)
