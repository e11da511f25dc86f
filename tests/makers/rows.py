"""Training rows to draw on, written as a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.makers.models import make_model

WORDS = ["the", "register", "gives", "seven", "values", "for", "the", "northern", "gate", "it", "is", "forty", "two"]


def make_rows(path: Path, count: int = 24, longest: int = 120) -> Path:
    """Conversations of very different lengths, from two sources."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            document = " ".join(rng.choice(WORDS, int(rng.integers(3, longest))))
            answer = " ".join(rng.choice(WORDS, int(rng.integers(1, 12))))
            messages = [{"role": "user", "content": document}, {"role": "assistant", "content": answer}]
            source = "chat" if number % 3 else "long"
            file.write(json.dumps({"id": str(number), "messages": messages, "source": source}) + "\n")
    return path


def make_inputs(folder: Path, rows: int = 24) -> Path:
    """What training starts from: `folder` with model/ and rows.jsonl."""
    make_model(folder / "model")
    make_rows(folder / "rows.jsonl", rows)
    return folder
