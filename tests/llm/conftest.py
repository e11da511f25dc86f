"""A tiny random model with a chat template, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from tests.tiny_models import byte_bpe, save_llama

torch.set_num_threads(1)  # two threads on a busy machine are many times slower

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = "the quick brown fox jumps over the lazy dog while user assistant and system ask what the document says"


def make_model(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    control = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    core = byte_bpe([TEXT] * 4, vocabulary=400, control=control)
    fast = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|pad|>", eos_token="<|endoftext|>")
    fast.chat_template = template
    return save_llama(
        folder,
        fast,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        initializer_range=0.3,
    )


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")
