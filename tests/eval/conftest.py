"""Tokenizers of four kinds, a tiny random model, and text to hide needles in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.makers.chat_templates import ROLE_MARKS
from tests.makers.models import save_chat_model
from tests.makers.text import filler
from tests.makers.tokenizers import byte_bpe, unigram, whole_words, with_template

SPECIALS = ["<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>"]
SHAPE = {
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.02,
}


def build_tokenizer(kind: str) -> Any:
    """`bytes`, `word`, `unigram`, or `glued`: full stops belong to the word before them, no token is a full stop."""
    text = [filler(300), filler(60, language="zh"), "Register entry: Which entry does the register hold for?"]
    core = {
        "bytes": lambda: byte_bpe(text, vocabulary=500, control=SPECIALS),
        "word": lambda: whole_words(text, control=SPECIALS),
        "unigram": lambda: unigram(text, vocabulary=300, control=SPECIALS),
        "glued": lambda: whole_words(text, control=SPECIALS, stops_apart=False),
    }[kind]()
    return with_template(core, ROLE_MARKS, eos_token="<|end|>", pad_token="<pad>", unk_token="<unk>")


@pytest.fixture(scope="session")
def tokenizers() -> Callable[[str], Any]:
    cache: dict[str, Any] = {}

    def get(kind: str) -> Any:
        if kind not in cache:
            cache[kind] = build_tokenizer(kind)
        return cache[kind]

    return get


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tokenizers: Callable[[str], Any]) -> Path:
    """A random Llama with the byte-level tokenizer, window 256."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return save_chat_model(folder, tokenizers("bytes"), **SHAPE)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three text files, about 20k words."""
    folder = tmp_path_factory.mktemp("documents")
    for number in range(3):
        (folder / f"{number}.txt").write_text(filler(400, offset=1000 * number), encoding="utf-8")
    return folder
