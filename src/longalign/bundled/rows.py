"""Rows that the demo makes itself, by name: `builtin:KIND-TOKENS-COUNT`.

    builtin:recall-256-800   800 conversations of about 256 tokens: text with register entries, questions about them
    builtin:warmup-128-7200  the same without text and with one-word names: from these retrieval emerges first
    builtin:pairs-128-4000   without text, with two-word names
    builtin:chat-0-300       300 short instructions (bundled/skills.py), training split

Row i depends on the name and i only. Names and values are of the training split.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from longalign.base.files import random_for
from longalign.base.sources import Named
from longalign.bundled.corpora import corpus
from longalign.bundled.register import Fact, Language, draw_facts, insert_facts
from longalign.bundled.skills import short_rows
from longalign.errors import ConfigError

KINDS = ("recall", "warmup", "pairs", "chat")
DEMO_CHARACTERS_PER_TOKEN = {"en": 3.2, "zh": 0.9}
"""What the demo's own tokenizer makes of its texts. It decides the demo's rows, so it stays as it is; where a length is
only estimated, `core.text.CHARACTERS_PER_TOKEN` stands."""
CHINESE_SHARE = 0.1
TOKENS_PER_QUESTION = 34
SHORTEST_SHARE = 0.35
"""A row's length is drawn between this share of the named length and all of it."""


def rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a bundled set. Raises `ConfigError` for a name of another form."""
    kind, *numbers = Named(name).short.split("-")
    if kind not in KINDS or len(numbers) != 2 or not all(n.isdigit() for n in numbers):
        raise ConfigError(f"`{name}`: no such bundled rows; a name looks like builtin:recall-256-800")
    tokens, count = map(int, numbers)
    if kind == "chat":
        chinese = round(count * CHINESE_SHARE)
        yield from short_rows(count - chinese, seed=0, split="train")
        yield from short_rows(chinese, seed=0, split="train", language="zh")
        return
    for number in range(count):
        rng = random_for(0, "demo", name, number)
        row = _recall(rng, tokens) if kind == "recall" else _bare(rng, one_word=kind == "warmup")
        yield {"id": f"{kind}-{tokens}-{number}", **row}


def dialogue(text: str, asked: list[Fact]) -> list[dict[str, str]]:
    """A document, then one question after another about its register entries."""
    turns = []
    for position, fact in enumerate(asked):
        question = fact.question if position else f"{text}\n\n{fact.question}"
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": fact.sentence}]
    return turns


def _bare(rng: np.random.Generator, *, one_word: bool) -> dict[str, Any]:
    facts = draw_facts(rng, 5, split="train")
    if one_word:
        facts = [Fact(fact.name.split()[0], fact.value) for fact in facts]
    order = [facts[i] for i in rng.permutation(5)]
    messages = dialogue(" ".join(fact.sentence for fact in facts), order)
    return {"messages": messages, "source": "builtin:bare", "task": "extraction", "language": "en"}


def _recall(rng: np.random.Generator, tokens: int) -> dict[str, Any]:
    language: Language = "zh" if rng.random() < CHINESE_SHARE else "en"
    length = int(rng.uniform(SHORTEST_SHARE, 1.0) * tokens)
    max_facts = 4 if tokens <= 512 else 8
    count = int(rng.integers(2, max_facts + 1))
    questions = int(rng.integers(1, min(count, 3 if tokens <= 512 else 6) + 1))
    facts = draw_facts(rng, count, split="train", language=language)
    room = length - questions * TOKENS_PER_QUESTION - count * 10
    text = passage(rng, language, max(int(room * DEMO_CHARACTERS_PER_TOKEN[language]), 0))
    text = insert_facts(text, facts, list(rng.random(count)))
    asked = [facts[i] for i in rng.permutation(count)[:questions]]
    messages = dialogue(text, asked)
    return {"messages": messages, "source": "builtin:recall", "task": "extraction", "language": language}


def passage(rng: np.random.Generator, language: Language, characters: int) -> str:
    """About that much running text, from a random place of a random document (and the next ones where it ends)."""
    documents = list(corpus("chinese" if language == "zh" else "python-docs"))
    parts, missing = [], characters
    while missing > 0:
        _, text = documents[int(rng.integers(len(documents)))]
        start = int(rng.integers(max(len(text) - missing, 1)))
        parts.append(text[start : start + missing].strip())
        missing -= len(parts[-1]) + 2
    return "\n\n".join(parts)
