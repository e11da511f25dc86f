"""Short instructions with one right answer: the short skills of the demo, to train on and to test.

Seven kinds, made of common words. Which split a row belongs to depends on its question alone, so a test question
is never a training question, whatever the seeds. Real runs use real chats and lm-evaluation-harness instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from longalign.base.files import random_for
from longalign.bundled.register import Language, Split, draw_facts, split_of, word_pool

Skill = Callable[[np.random.Generator, Language, Split], tuple[str, str]]


def short_rows(n: int, *, seed: int, split: Split, language: Language = "en") -> Iterator[dict[str, Any]]:
    """`n` rows of messages, the kinds in turn; row `i` depends on seed, split, language and `i` only."""
    kinds = list(SKILLS)
    for number in range(n):
        kind = kinds[number % len(kinds)]
        question, answer = _draw(kind, seed, split, language, number)
        yield {
            "id": f"short-{split}-{language}-{seed}-{number}",
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            "source": "builtin:short",
            "task": kind,
            "language": language,
        }


def _draw(kind: str, seed: int, split: Split, language: Language, number: int) -> tuple[str, str]:
    for attempt in range(1000):
        rng = random_for(seed, "short", kind, language, split, number, attempt)
        question, answer = SKILLS[kind](rng, language, split)
        if split_of(question) == split:
            return question, answer
    raise AssertionError(f"no {split} question of kind {kind} in 1000 draws")


def retrieve(rng: np.random.Generator, language: Language, split: Split) -> tuple[str, str]:
    """Which entry does a register of four hold for a name?"""
    facts = draw_facts(rng, 4, split=split, language=language)
    asked = facts[int(rng.integers(len(facts)))]
    gap = "" if language == "zh" else " "
    return f"{gap.join(fact.sentence for fact in facts)}\n\n{asked.question}", asked.sentence


def copy(rng: np.random.Generator, language: Language, split: Split) -> tuple[str, str]:
    """Repeat a line."""
    line = " ".join(_words(rng, language, 3, 6))
    return _ask(language, f"Repeat this line: {line}", f"重复这一行： {line}"), _answer(
        language, "Line", "这一行", line
    )


def first_word(rng: np.random.Generator, language: Language, split: Split) -> tuple[str, str]:
    """The first word of a line."""
    words = _words(rng, language, 3, 6)
    line = " ".join(words)
    return _ask(language, f"What is the first word of this line? {line}", f"这一行的第一个词是什么？ {line}"), _answer(
        language, "First word", "第一个词", words[0]
    )


def last_word(rng: np.random.Generator, language: Language, split: Split) -> tuple[str, str]:
    """The last word of a line."""
    words = _words(rng, language, 3, 6)
    line = " ".join(words)
    return _ask(language, f"What is the last word of this line? {line}", f"这一行的最后一个词是什么？ {line}"), _answer(
        language, "Last word", "最后一个词", words[-1]
    )


def next_word(rng: np.random.Generator, language: Language, split: Split) -> tuple[str, str]:
    """The word after a given one."""
    words = _words(rng, language, 4, 7)
    place = int(rng.integers(len(words) - 1))
    line, word = " ".join(words), words[place]
    english = f"Which word comes after {word} in this line? {line}"
    return _ask(language, english, f"这一行中 {word} 后面是哪个词？ {line}"), _answer(
        language, "Next word", "下一个词", words[place + 1]
    )


def swap(rng: np.random.Generator, language: Language, split: Split) -> tuple[str, str]:
    """Two words the other way round."""
    a, b = _words(rng, language, 2, 2)
    return _ask(language, f"Swap these two words: {a} {b}", f"交换这两个词： {a} {b}"), _answer(
        language, "Swapped", "交换后", f"{b} {a}"
    )


def contains(rng: np.random.Generator, language: Language, split: Split) -> tuple[str, str]:
    """Whether a word occurs in a line."""
    *words, absent = _words(rng, language, 4, 7)
    there = bool(rng.integers(2))
    word = words[int(rng.integers(len(words)))] if there else absent
    line = " ".join(words)
    question = _ask(language, f"Does this line contain {word}? {line}", f"这一行里有 {word} 吗？{line}")
    return question, _ask(language, "yes" if there else "no", "有" if there else "没有")


SKILLS: dict[str, Skill] = {
    "retrieve": retrieve,
    "copy": copy,
    "first_word": first_word,
    "last_word": last_word,
    "next_word": next_word,
    "swap": swap,
    "contains": contains,
}


def _words(rng: np.random.Generator, language: Language, low: int, high: int) -> list[str]:
    """Different words of the pool, `low` to `high` of them."""
    pool = word_pool(language)
    count = int(rng.integers(low, high + 1))
    return [pool[i] for i in rng.choice(len(pool), size=count, replace=False)]


def _ask(language: Language, english: str, chinese: str) -> str:
    return chinese if language == "zh" else english


def _answer(language: Language, english: str, chinese: str, words: str) -> str:
    """Words follow a label and a space, so that they are the same tokens in question and answer."""
    return f"{chinese}： {words}。" if language == "zh" else f"{english}: {words}."
