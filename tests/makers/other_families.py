"""More tiny families: those whose layers carry a state from token to token, and those that join several networks."""

from __future__ import annotations

from tests.makers.families import DECODERS, EXPERTS, LATENT, LOCAL_AND_FULL, Family

LINEAR = {
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2, "mamba_n_groups": 1}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
HYBRIDS = (
    Family(
        "Qwen3-Next", "Qwen3NextConfig", {**LINEAR, "num_experts": 4, "shared_expert_intermediate_size": 24, **EXPERTS}
    ),
    Family("Qwen3.5, text", "Qwen3_5TextConfig", LINEAR),
    Family(
        "Qwen3.5-MoE, text",
        "Qwen3_5MoeTextConfig",
        {**LINEAR, "num_experts": 4, "shared_expert_intermediate_size": 24, **EXPERTS},
    ),
    Family("OLMo hybrid", "OlmoHybridConfig", LINEAR),
    Family(
        "Granite 4 hybrid",
        "GraniteMoeHybridConfig",
        {
            **MAMBA2,
            "layer_types": ["linear_attention", "full_attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "shared_intermediate_size": 24,
        },
    ),
    Family(
        "MiniMax-Text-01",
        "MiniMaxConfig",
        {"num_local_experts": 4, "layer_types": ["linear_attention", "full_attention"], "block_size": 16},
    ),
    Family(
        "Nemotron-H",
        "NemotronHConfig",
        {
            "layers_block_type": ["mamba", "attention"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 1,
            "head_dim": 8,
        },
    ),
    Family("Bamba", "BambaConfig", {**MAMBA2, "attn_layer_indices": [1]}),
    Family("Falcon-H1", "FalconH1Config", {**MAMBA2, "mamba_d_ssm": 64, "head_dim": 8}),
    Family(
        "Jamba",
        "JambaConfig",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 2,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    Family(
        "Zamba 2",
        "Zamba2Config",
        {
            "layers_block_type": ["mamba", "hybrid"],
            "mamba_d_state": 8,
            "n_mamba_heads": 8,
            "mamba_ngroups": 1,
            "num_key_value_heads": 4,
        },
    ),
    Family("Mamba", "MambaConfig", {"state_size": 8, "time_step_rank": 4}),
    Family("Mamba 2", "Mamba2Config", {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1}),
    Family("Falcon Mamba", "FalconMambaConfig", {"state_size": 8, "time_step_rank": 4}),
    Family("RWKV", "RwkvConfig", {"attention_hidden_size": 32, "context_length": 256}),
    Family(
        "RecurrentGemma",
        "RecurrentGemmaConfig",
        {"lru_width": 32, "attention_window_size": 8, "block_types": ["recurrent", "attention"], "head_dim": 8},
    ),
    Family("xLSTM", "xLSTMConfig", {"num_heads": 4, "num_blocks": 2}),
    Family("LFM2", "Lfm2Config", {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}),
    Family(
        "LFM2-MoE",
        "Lfm2MoeConfig",
        {"layer_types": ["conv", "full_attention"], "num_experts": 4, "num_dense_layers": 1, **EXPERTS},
    ),
    Family(
        "Kimi-Linear",
        "KimiLinearConfig",
        {
            **LATENT,
            "q_lora_rank": None,
            "num_key_value_heads": 4,
            "linear_head_dim": 8,
            "linear_num_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
            "num_experts": 4,
            **EXPERTS,
        },
    ),
)
WRAPPERS = (
    Family("Gemma 3", "Gemma3Config", LOCAL_AND_FULL | {"head_dim": 8}, "vision_config", VISION, "Gemma3TextConfig"),
    Family("Mistral 3", "Mistral3Config", {"head_dim": 8}, "vision_config", VISION, "MistralConfig"),
    Family(
        "Qwen2.5-VL",
        "Qwen2_5_VLConfig",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}},
        "vision_config",
        {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 32},
        "Qwen2_5_VLTextConfig",
    ),
    Family(
        "Qwen3-VL",
        "Qwen3VLConfig",
        {"head_dim": 8, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}},
        "vision_config",
        {
            "depth": 1,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 16,
            "out_hidden_size": 32,
            "deepstack_visual_indexes": [0],
        },
        "Qwen3VLTextConfig",
    ),
    Family(
        "Qwen3.5",
        "Qwen3_5Config",
        LINEAR,
        "vision_config",
        {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": 32},
        "Qwen3_5TextConfig",
    ),
    Family(
        "Llama 4",
        "Llama4Config",
        {"head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48},
        "vision_config",
        VISION | {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
        "Llama4TextConfig",
    ),
    Family(
        "LLaVA",
        "LlavaConfig",
        {},
        "vision_config",
        {"model_type": "clip_vision_model", **VISION, "projection_dim": 16},
        "LlamaConfig",
    ),
    Family("InternVL 3", "InternVLConfig", {}, "vision_config", VISION, "Qwen2Config"),
)
FAMILIES = {family.name: family for family in (*DECODERS, *HYBRIDS, *WRAPPERS)}
"""By name."""
