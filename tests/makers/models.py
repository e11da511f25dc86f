"""Tiny models with random weights, in memory and saved as people save theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.makers.chat_templates import CHATML
from tests.makers.tokenizers import chat_tokenizer

VOCABULARY = 89


def tiny_config(config_class: type | None = None, **fields: Any) -> Any:
    """A two-layer grouped-query config (Llama's unless told); weights spread widely, so attention is not uniform."""
    from transformers import LlamaConfig

    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.15,
        "max_position_embeddings": 128,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    return (config_class or LlamaConfig)(**(shape | fields))


def save_model(folder: Path, tokenizer: Any, config_class: type | None = None, **fields: Any) -> Path:
    """Random weights (seed 0) of a `tiny_config` with these `fields`, for a transformers tokenizer, saved beside it."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    config = tiny_config(config_class, **({"vocab_size": len(tokenizer)} | fields))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_chat_model(folder: Path, tokenizer: Any, **fields: Any) -> Path:
    """A Llama that stops where the tokenizer's turns end: see `save_model`."""
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return save_model(folder, tokenizer, **(ends | fields))


def make_model(folder: Path, config_class: type | None = None) -> Path:
    """A model directory to train: window 64, tied embeddings, ChatML."""
    tokenizer, window = chat_tokenizer(CHATML), 64
    tokenizer.model_max_length = window
    return save_model(folder, tokenizer, config_class, max_position_embeddings=window, tie_word_embeddings=True)
