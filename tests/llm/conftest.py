"""A tiny random model with a chat template, saved as people save theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.makers.chat_templates import CHATML
from tests.makers.models import save_chat_model
from tests.makers.tokenizers import byte_bpe, with_template

torch.set_num_threads(1)  # two threads on a busy machine are many times slower

TEXT = "the quick brown fox jumps over the lazy dog while user assistant and system ask what the document says"


def make_model(folder: Path, *, template: str | None = CHATML) -> Path:
    control = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    core = byte_bpe([TEXT] * 4, vocabulary=400, control=control)
    fast = with_template(core, template, pad_token="<|pad|>", eos_token="<|endoftext|>")
    return save_chat_model(folder, fast, intermediate_size=64, max_position_embeddings=2048, initializer_range=0.3)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")
