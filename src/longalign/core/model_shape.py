"""The shape of a decoder model: its sizes and parameter counts, read from a config, and the FLOPs of a sequence.

`SHAPES` holds the named shapes (`--model-shape 7b`). `SequenceCost` is what a training token costs, plus what attention
adds with length.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from longalign.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A decoder with gated MLPs and grouped-query attention; sizes in elements.

    experts, experts_per_token: 1 and 1 for a dense model; `intermediate` is one expert's width, `shared_intermediate`
    the width every token passes besides. windowed_layers of the layers see `attention_window` tokens only;
    stateful_layers carry a state instead of attending, so that their work does not grow with length.
    layer_vectors: elements of one layer's norms and biases.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool = False
    experts: int = 1
    experts_per_token: int = 1
    shared_intermediate: int = 0
    windowed_layers: int = 0
    attention_window: int = 0
    layer_vectors: int = 0
    stateful_layers: int = 0

    @property
    def attention_width(self) -> int:
        """Elements of all query heads of a token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Elements of all key heads of a token."""
        return self.kv_heads * self.head_dim

    def layer_parameters(self, *, active: bool = False) -> int:
        """Weights of one layer's matrices; `active`: those one token passes."""
        experts = self.experts_per_token if active else self.experts
        attention = 2 * self.hidden * (self.attention_width + self.kv_width)
        router = self.hidden * self.experts if self.experts > 1 else 0
        return attention + router + 3 * self.hidden * (experts * self.intermediate + self.shared_intermediate)

    @property
    def head_parameters(self) -> int:
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All weights. Exact for Llama, Qwen2, Qwen3 (also MoE), Mistral, Mixtral, Gemma 1-3, GLM, GLM-4, Phi-3,
        Granite and Cohere2 (tests/core/test_model_shape.py); others within a percent, MoE with dense first layers
        worse.
        """
        layers = self.layers * (self.layer_parameters() + self.layer_vectors)
        return layers + self.hidden + (1 if self.tied else 2) * self.head_parameters

    def lora_parameters(self, rank: int) -> int:
        """Adapter weights of rank `rank` on every matrix of every layer (dense width)."""
        ends = 4 * self.hidden + 2 * (self.attention_width + self.kv_width) + 3 * (self.hidden + self.intermediate)
        return self.layers * rank * ends

    def whole_parameters(self, modules: Collection[str]) -> int:
        """Weights of the modules that train whole beside adapters; what is tied counts once, unknown names nothing."""
        embedding, head = (any(name in modules for name in names) for names in (EMBEDDINGS, OUTPUTS))
        norms = self.layers * self.layer_vectors + self.hidden if any("norm" in name for name in modules) else 0
        return (max if self.tied else sum)((embedding, head)) * self.head_parameters + norms

    def sequence_cost(self, *, frozen_weights: bool = False) -> SequenceCost:
        """FLOPs of a training sequence, recomputation left out (they are *model* FLOPs, as MFU counts them).

        A weight costs 2 FLOPs a token forward, 2 for the gradient of its input and 2 for its own, which LoRA's frozen
        weights spare. Attention costs 4 * width FLOPs a (query, key) pair and layer forward and twice that backward.
        The head is left out: it works on targets only, and its share is below 2% even with all tokens as targets.
        """
        a_pair = 12.0 * self.attention_width
        return SequenceCost(
            linear=(4.0 if frozen_weights else 6.0) * self.layers * self.layer_parameters(active=True),
            quadratic=a_pair * (self.layers - self.windowed_layers - self.stateful_layers),
            windowed=a_pair * self.windowed_layers,
            attention_window=self.attention_window if self.windowed_layers else 0,
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str = "config") -> ModelShape:
        """Read a Hugging Face config.json (as a dict). Raises ConfigError naming the key that is missing."""
        config = config.get("text_config") or config

        def first(*keys: str, default: Any = None) -> Any:
            for key in keys:
                if config.get(key) is not None:
                    return max(config[key]) if isinstance(config[key], list) else config[key]
            if default is None:
                raise ConfigError(f"{name}: config.json has no `{keys[0]}`; cannot tell the model's shape")
            return default

        hidden = int(first("hidden_size", "n_embd", "d_model"))
        heads = int(first(*HEADS, default=max(hidden // 64, 1)))
        layers = int(first("num_hidden_layers", "num_layers", "n_layer", "n_layers"))
        experts = int(first("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", default=1))
        dense_width = int(first("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", default=4 * hidden))
        width = int(first("moe_intermediate_size", default=dense_width)) if experts > 1 else dense_width
        shared = int(first("shared_expert_intermediate_size", default=0)) if experts > 1 else 0
        shared += width * int(first("n_shared_experts", default=0)) if experts > 1 else 0
        window = int(config.get("sliding_window") or 0) if config.get("use_sliding_window", True) else 0
        kinds = config.get("layer_types") or config.get("layers_block_type") or ["sliding_attention"] * layers
        windowed = sum(kind == "sliding_attention" for kind in kinds) if window else 0
        attends = any(config.get(key) is not None for key in HEADS)
        stateful = sum(kind in STATEFUL for kind in kinds) if attends else layers
        kv_heads = int(first("num_key_value_heads", "multi_query_group_num", default=heads))
        head_dim = int(first("head_dim", "kv_channels", default=hidden // heads))
        return cls(
            name=name,
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate=width,
            vocabulary=int(first("vocab_size", "padded_vocab_size")),
            tied=bool(config.get("tie_word_embeddings", False)),
            experts=experts,
            experts_per_token=int(first("num_experts_per_tok", *PER_TOKEN)) if experts > 1 else 1,
            shared_intermediate=shared,
            windowed_layers=windowed,
            attention_window=window,
            stateful_layers=stateful,
            layer_vectors=_layer_vectors(config, hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=head_dim),
        )


EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
OUTPUTS = ("lm_head", "embed_out", "output_layer")
"""Names of the embedding and of the head in models."""
HEADS = ("num_attention_heads", "n_head", "n_heads")
PER_TOKEN = ("num_experts_per_token", "moe_topk", "moe_k", "moe_top_k")
"""What configs also call `num_experts_per_tok`."""
STATEFUL = frozenset({"linear_attention", "mamba", "conv", "recurrent"})
"""Values of `layer_types` for layers without attention."""
NORMS_A_LAYER = {"gemma2": 4, "gemma3_text": 4, "glm4": 4, "cohere": 1, "cohere2": 1}
"""By `model_type`, where there are not two."""


def _layer_vectors(config: Mapping[str, Any], *, hidden: int, heads: int, kv_heads: int, head_dim: int) -> int:
    kind = config.get("model_type")
    found = NORMS_A_LAYER.get(str(kind), 2) * hidden
    if kind in ("qwen3", "qwen3_moe", "gemma3_text"):  # one norm for queries, one for keys, shared by all heads
        found += 2 * head_dim
    if kind in ("qwen2", "qwen2_moe") or config.get("attention_bias") or config.get("add_qkv_bias"):
        found += (heads + 2 * kv_heads) * head_dim
    return found


def _dense(
    name: str, hidden: int, layers: int, heads: int, kv: int, width: int, vocab: int,
    *, head_dim: int | None = None, tied: bool = False, other_vectors: int = 0,
) -> ModelShape:  # fmt: skip
    return ModelShape(
        name=name, hidden=hidden, layers=layers, heads=heads, kv_heads=kv, head_dim=head_dim or hidden // heads,
        intermediate=width, vocabulary=vocab, tied=tied, layer_vectors=2 * hidden + other_vectors,
    )  # fmt: skip


QKV_BIAS = 4096 + 2 * 2 * 128  # of ChatGLM3 and GLM-4
QK_NORM = 2 * 128  # of Qwen3
SHAPES: Mapping[str, ModelShape] = {
    shape.name: shape
    for shape in (
        _dense("tiny", 128, 2, 4, 4, 384, 1280, tied=True),  # the demo's size
        _dense("6b", 4096, 28, 32, 2, 13696, 65024, other_vectors=QKV_BIAS),  # ChatGLM3-6B
        _dense("7b", 4096, 32, 32, 32, 11008, 32000),  # Llama-2-7B
        _dense("8b", 4096, 32, 32, 8, 14336, 128256),  # Llama-3.1-8B
        _dense("13b", 5120, 40, 40, 40, 13824, 32000),  # Llama-2-13B
        _dense("70b", 8192, 80, 64, 8, 28672, 32000),  # Llama-2-70B
        _dense("glm-4-9b", 4096, 40, 32, 2, 13696, 151552, other_vectors=QKV_BIAS),
        _dense("qwen3-4b", 2560, 36, 32, 8, 9728, 151936, head_dim=128, tied=True, other_vectors=QK_NORM),
        _dense("qwen3-8b", 4096, 36, 32, 8, 12288, 151936, head_dim=128, other_vectors=QK_NORM),
    )
}
HUB_SHAPES: Mapping[str, str] = {
    hub_id.lower(): name
    for name, hub_ids in {
        "6b": ("THUDM/chatglm3-6b-base", "THUDM/LongAlign-6B-64k-base", "THUDM/LongAlign-6B-64k"),
        "7b": ("meta-llama/Llama-2-7b-hf", "THUDM/LongAlign-7B-64k-base", "THUDM/LongAlign-7B-64k"),
        "13b": ("meta-llama/Llama-2-13b-hf", "THUDM/LongAlign-13B-64k-base", "THUDM/LongAlign-13B-64k"),
        "70b": ("meta-llama/Llama-2-70b-hf",),
        "8b": ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3-8B"),
        "glm-4-9b": ("THUDM/glm-4-9b-hf", "zai-org/glm-4-9b-hf", "THUDM/glm-4-9b-chat-hf", "zai-org/glm-4-9b-chat-hf"),
        "qwen3-4b": ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B-Base"),
        "qwen3-8b": ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B-Base"),
    }.items()
    for hub_id in hub_ids
}
"""Shapes of public models by lower-case hub id, so that planning with them asks nobody."""


@dataclass(frozen=True)
class SequenceCost:
    """FLOPs of one sequence, forward and backward: `linear * L + quadratic * pairs(L)` over attention layers.

    linear: FLOPs a token (matrices); quadratic: FLOPs a (query, key) pair of full causal attention, all layers;
    windowed: the same for layers with a sliding window of `attention_window` tokens.
    A causal sequence of L tokens has L^2 / 2 pairs; a window W leaves W * L - W^2 / 2 of them when L > W.
    """

    linear: float
    quadratic: float
    windowed: float = 0.0
    attention_window: int = 0

    def flops(self, length_tokens: ArrayLike) -> NDArray[np.float64]:
        """FLOPs of sequences of the given lengths (tokens); keeps the shape."""
        length = np.asarray(length_tokens, dtype=np.float64)
        flops = length * (self.linear + 0.5 * self.quadratic * length)
        if self.windowed:
            seen = np.minimum(length, self.attention_window)
            flops += self.windowed * seen * (length - 0.5 * seen)
        return flops


# Llama-2-7B, trained in full: 6 FLOPs for each of 6.476e9 layer weights a token, and 4 * hidden forward FLOPs a pair
# and layer, times 3 for forward and backward. Only the ratio of the two decides a plan.
LLAMA_7B_COST = SequenceCost(linear=6 * 6.476e9, quadratic=12.0 * 32 * 4096)
