"""The whole recipe in seconds: a random one-layer Llama, a few documents, a recipe that runs every stage on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from longalign.bundled.register import word_pool
from tests.makers.chat_templates import CHATML_MARKED
from tests.makers.models import save_chat_model
from tests.makers.text import prose
from tests.makers.tokenizers import byte_bpe, with_template

WINDOW = 256
LONG_WINDOW = 512
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
MODELS = ("base", "extended", "sft-short", "sft-long")
TRAINED = ("train/short-seed0", "train/long-seed0")
EVALUATED = ("base", "extended", "sft-short-seed0", "sft-long-seed0")


def make_documents(folder: Path) -> Path:
    """Plain text files as a person has them: ten English and three Chinese ones, about 6,000 words."""
    folder.mkdir(parents=True)
    for number in range(10):
        (folder / f"notes {number}.txt").write_text(prose(number, 12 + 4 * number), encoding="utf-8")
    for number in range(3):
        (folder / f"笔记{number}.md").write_text(prose(50 + number, 12 + 4 * number, "zh"), encoding="utf-8")
    return folder


def make_base(folder: Path) -> Path:
    """A model directory: random weights, window 256, and a tokenizer that knows the words of register entries."""
    texts = [prose(0, 80), prose(50, 80, "zh"), " ".join(word_pool("en")), " ".join(word_pool("zh"))]
    core = byte_bpe(texts * 2, vocabulary=2000, control=SPECIAL)
    fast = with_template(core, CHATML_MARKED, pad_token=SPECIAL[0], eos_token=SPECIAL[2])
    return save_chat_model(
        folder,
        fast,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )


def recipe(base: Path, documents: Path) -> dict[str, Any]:
    """Every stage, both arms, all three evaluations: a few steps and questions each."""
    common = {"documents": [str(documents)], "llm": "offline", "tokenizer": str(base), "register_entries": 2}
    loop = {"window": LONG_WINDOW, "learning_rate": 5e-3, "token_limit": 1024, "save_steps": 1}
    return {
        "name": "micro",
        "model": str(base),
        "extend": {**loop, "text": [str(documents)], "optimizer": "muon", "sequences_per_step": 8, "max_steps": 4},
        "data": {
            "short": {**common, "rows": 12, "min_length_tokens": 60, "max_length_tokens": 256, "turns": 2},
            "long": {**common, "rows": 6, "min_length_tokens": 256, "max_length_tokens": 512, "turns": 2},
        },
        "train": {
            **loop,
            "strategy": "balanced",
            "sequences_per_step": 6,
            "num_train_epochs": 1,
            "arms": {
                "short": {"data": {"short": 12, "builtin:chat-0-8": None}},
                "long": {"data": {"short": 6, "long": 6, "builtin:chat-0-8": None}},
            },
        },
        "throughput_rows": 8,
        "eval": {
            "batch_tokens": 512,
            "needle": {
                "form": "register",
                "lengths": [128, 256, 512],
                "depths": 2,
                "needles": 2,
                "max_new_tokens": 4,
                "haystack": [str(documents)],
            },
            "short": {"questions": 7, "max_new_tokens": 4},
            "chat": {"questions": 4, "case_tokens": 128, "max_new_tokens": 4, "documents": [str(documents)]},
        },
    }


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "longalign", *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread: many are slower on busy machines, and a resumed run must add in the same order. No keys."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    return {**kept, "OMP_NUM_THREADS": "1"}


def longalign(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(), timeout=600)


def results_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return found
