"""The demo's base model, from nothing: tokenizer, then three runs of `extend` at a window of 256 tokens.

    make tiny-base        about 15 minutes on two cores; writes src/longalign/bundled/tiny-base

Retrieval emerges from one-word names without text, moves to two-word names, then to names inside running text
(docs/log.md says what else was tried). Real users start from Llama or Qwen at this point, through the same code.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from tests.makers.tokenizers import byte_bpe, with_template
from transformers import LlamaConfig

from longalign.base.files import atomic_write_text
from longalign.bundled.corpora import corpus
from longalign.bundled.register import QUESTION, SENTENCE, word_pool
from longalign.config import ExtendSettings
from longalign.train.extend import extend

WINDOW = 256
VOCABULARY = 5120
TEXT = ("builtin:python-docs", "builtin:chinese")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message.content + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SHIPPED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def make_tokenizer(folder: Path) -> None:
    """Byte-level BPE on the training documents and on the words of names and values."""
    texts = [text for name in TEXT for _, text in corpus(name)]
    for language, times in (("en", 60), ("zh", 60)):
        texts += [" " + " ".join(word_pool(language))] * times  # every word of the pools becomes one token
        texts += [form[language].format(name="", value="") for form in (SENTENCE, QUESTION)] * 200
    fast = with_template(
        byte_bpe(texts, vocabulary=VOCABULARY, control=SPECIAL),
        CHAT_TEMPLATE,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens={},
        model_max_length=WINDOW,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)


def make_config(folder: Path) -> None:
    """A Llama shape of 1.0 million parameters. A wider MLP (448, 512) kept retrieval from emerging: docs/log.md."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)


def stages(out: Path) -> list[tuple[str, ExtendSettings]]:
    """The three runs; each starts from the one before."""
    common: dict[str, Any] = {
        "window": WINDOW,
        "rope": {"method": "base", "base_factor": 1.0},
        "optimizer": "muon",
        "learning_rate": 3e-3,
        "muon_learning_rate": 0.02,
        "strategy": "packed",
        "weighting": "sequence",
        "token_limit": 2048,
        "dtype": "float32",
        "save_steps": 200,
    }
    emerge = {
        "model": str(out / "start"),
        "init": "random",
        "data": {"builtin:warmup-128-11200": None},
        "sequences_per_step": 16,
        "warmup_ratio": 0.04,
        "lr_scheduler_type": "constant_with_warmup",
    }
    pairs = {
        "model": str(out / "emerge" / "final"),
        "data": {"builtin:pairs-128-4000": None},
        "sequences_per_step": 16,
        "learning_rate": 1.5e-3,
        "muon_learning_rate": 0.01,
        "warmup_ratio": 0.04,
        "lr_scheduler_type": "constant_with_warmup",
    }
    settle = {
        "model": str(out / "pairs" / "final"),
        "text": TEXT,
        "data": {"builtin:recall-256-20000": None, "builtin:chat-0-3000": None},
        "sequences_per_step": 20,
        "learning_rate": 2e-3,
        "muon_learning_rate": 0.01,
        "lr_scheduler_type": "cosine",
    }
    return [
        (name, ExtendSettings(**common | own))
        for name, own in (("emerge", emerge), ("pairs", pairs), ("settle", settle))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-base"))
    parser.add_argument("--install", type=Path, help="copy the result here, with its manifest")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if not (out / "start" / "config.json").exists():
        make_tokenizer(out / "start")
        make_config(out / "start")
    for name, settings in stages(out):
        extend(settings, out / name)
    if arguments.install:
        install(out, arguments.install)


def install(out: Path, folder: Path) -> None:
    """Ship the last stage's model, with the manifests of all stages beside it."""
    *_, (last, _) = stages(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        shutil.copyfile(out / last / "final" / name, folder / name)
    manifests = {name: json.loads((out / name / "stage.json").read_text(encoding="utf-8")) for name, _ in stages(out)}
    atomic_write_text(folder / "manifest.json", json.dumps(manifests, indent=1).replace(str(out), "OUT") + "\n")


if __name__ == "__main__":
    main()
