"""Tokenizers of four kinds, a tiny random model, and text to hide needles in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_models import byte_bpe, save_llama

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<pad>", "<unk>", "<|user|>", "<|assistant|>", "<|end|>"]


def filler(sentences: int, offset: int = 0, language: str = "en") -> str:
    """Plain text whose sentences all differ."""
    if language == "zh":
        return "".join(f"第{i + offset}页写着河流向东走了很远。" for i in range(sentences))
    words = ["river", "stone", "maple", "window", "ledger", "candle", "harbour", "meadow", "copper", "orchard"]
    lines = []
    for i in range(offset, offset + sentences):
        a, b, c = (words[(i * k + k) % len(words)] for k in (1, 5, 7))
        lines.append(f"Page {i} says that the {a} near the {b} was older than every {c} in town.")
        if i % 9 == 8:
            lines.append("\n")
    return " ".join(lines)


def build_tokenizer(kind: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    text = [filler(300), filler(60, language="zh"), "Register entry: Which entry does the register hold for?"]
    if kind == "bytes":
        return with_template(byte_bpe(text, vocabulary=500, control=SPECIALS))
    trainer: Any
    if kind == "word":
        raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordLevelTrainer(special_tokens=SPECIALS, vocab_size=600)
    elif kind == "unigram":
        raw = Tokenizer(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(special_tokens=SPECIALS, vocab_size=300, unk_token="<unk>")
    else:  # full stops glued to the word before them: no token is a full stop
        raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(special_tokens=SPECIALS, vocab_size=600)
    raw.train_from_iterator(text, trainer)
    return with_template(raw)


def with_template(raw: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<pad>", unk_token="<unk>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


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
    shape = {"intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 256}
    return save_llama(folder, tokenizers("bytes"), **shape)


@pytest.fixture(scope="session")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three text files, about 20k words."""
    folder = tmp_path_factory.mktemp("documents")
    for number in range(3):
        (folder / f"{number}.txt").write_text(filler(400, offset=1000 * number), encoding="utf-8")
    return folder
