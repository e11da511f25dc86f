"""What a needle looks like: the sentence, its question, and how an answer is scored.

- `number`, `uuid`: "The special magic number for Oslo is 4812903.", as in RULER (arXiv 2404.06654); a small instruct
  model can answer that.
- `sentence`: sentences, questions and answers of the user's file, the classic test.
- `register`: two words after two words, which this package's small models are trained on; name and value are scored
  apart, because a model tuned on short rows may still find the value but no longer restate the name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longalign.bundled.names import cities, numbers, uuids
from longalign.bundled.register import Fact, draw_facts, find_facts
from longalign.config import NeedleSettings
from longalign.errors import ConfigError, DataError
from longalign.eval.cases import read_rows

WORD = re.compile(r"\w+")
SENTENCE = {"en": "The special magic {what} for {name} is {value}.", "zh": "{name}的特别神奇{what}是{value}。"}
QUESTION = {
    "en": "What is the special magic {what} for {name} mentioned in the text? Answer with the {what} only.",
    "zh": "文中提到的{name}的特别神奇{what}是什么？只回答这个{what}。",
}
WHAT = {"en": {"number": "number", "uuid": "identifier"}, "zh": {"number": "数字", "uuid": "编号"}}


@dataclass(frozen=True)
class Needle:
    """A sentence to find and its question. `answers`: each of them is right alone; `answer` is what rows show.

    `name` and `value` are empty where the sentence has no such parts.
    """

    sentence: str
    question: str
    answers: tuple[str, ...]
    answer: str
    name: str = ""
    value: str = ""
    fact: Fact | None = None
    """Of the form `register`."""


@dataclass(frozen=True)
class NeedleScore:
    """What an answer got right. Shares are over the words of name and value, by position in the full answer.

    Only `register` asks for the name too: elsewhere `name` and the shares are None.
    """

    value: bool
    exact: bool
    name: bool | None = None
    name_words: float | None = None
    value_words: float | None = None


def draw_needles(settings: NeedleSettings, rng: np.random.Generator) -> list[Needle]:
    """The needle, and the distractors of the same form that go with it.

    Raises `ConfigError` for a form without what it needs, `DataError` for a broken file of needles.
    """
    count, language = 1 + settings.distractors, settings.language
    if settings.form == "register":
        facts = draw_facts(rng, count, split="heldout", language=language)
        return [of_register(fact) for fact in facts]
    if settings.form == "sentence":
        known = needles_of(settings.needle_file)
        return [known[i] for i in rng.permutation(len(known))[:count]]
    what = WHAT[language][settings.form]
    names = cities(rng, count, language)
    values = numbers(rng, count) if settings.form == "number" else uuids(rng, count)
    return [
        Needle(
            sentence=SENTENCE[language].format(what=what, name=name, value=value),
            question=QUESTION[language].format(what=what, name=name),
            answers=(value,),
            answer=value,
            name=name,
            value=value,
        )
        for name, value in zip(names, values, strict=True)
    ]


def of_register(fact: Fact) -> Needle:
    """A register entry as a needle."""
    return Needle(fact.sentence, fact.question, (fact.value,), fact.sentence, fact.name, fact.value, fact)


def needles_of(file: str | None) -> list[Needle]:
    """The needles of a file: rows of `needle`, `question` and `answer` (a text, or several of which one is enough)."""
    if file is None:
        raise ConfigError(
            "form `sentence` needs needle_file: a .jsonl file of needle, question and answer, for example "
            '{"needle": "The best thing to do in ...", "question": "What is ...?", "answer": "eat a sandwich"}'
        )
    return [_needle(f"{file} row {number}", row) for number, row in enumerate(read_rows(Path(file)), start=1)]


def _needle(where: str, row: Any) -> Needle:
    values = row if isinstance(row, dict) else {}
    answer = values.get("answer")
    answers: list[Any] = answer if isinstance(answer, list) and answer else [answer]
    for key, value in (("needle", values.get("needle")), ("question", values.get("question")), ("answer", answers)):
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or not words(text):
                raise DataError(f"{where}: field `{key}` must be a text with at least one word")
    return Needle(values["needle"], values["question"], tuple(answers), answers[0])


def others_in(text: str, needle: Needle, drawn: Sequence[Needle]) -> tuple[Needle, ...]:
    """The other needles of a text; of the register also those that the documents hold by themselves."""
    if needle.fact is None:
        return tuple(other for other in drawn if other is not needle)
    return tuple(of_register(fact) for fact in find_facts(text) if fact.name != needle.name)


def score_needle(answer: str, needle: Needle, others: Sequence[Needle] = ()) -> NeedleScore:
    """`value` is right if an answer of the needle is given and no other's: listing all of them is no retrieval."""
    said = words(answer)
    right = any(occurs(words(wanted), said) for wanted in needle.answers)
    wrong = any(occurs(words(other.answers[0]), said) for other in others if other.answers[0] not in needle.answers)
    exact = said in (words(needle.answer), words(needle.sentence))
    if needle.fact is None:
        return NeedleScore(value=right and not wrong, exact=exact)
    full, name, value = words(needle.sentence), words(needle.name), words(needle.value)
    prefix = full[: len(full) - len(name) - len(value)]
    body = said[len(prefix) :] if said[: len(prefix)] == prefix else said
    return NeedleScore(
        value=right and not wrong,
        exact=exact,
        name=occurs(name, said),
        name_words=_matches(body[: len(name)], name),
        value_words=_matches(body[len(name) :], value),
    )


def words(text: str) -> list[str]:
    """Words without case, punctuation and width variants."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def occurs(part: list[str], whole: list[str]) -> bool:
    """Whether these words are said one after another; spaces between Chinese words carry nothing."""
    if any("\u3400" <= letter <= "\u9fff" for word in part for letter in word):
        return "".join(part) in "".join(whole)
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def _matches(said: list[str], wanted: list[str]) -> float:
    return sum(a == b for a, b in zip(said, wanted, strict=False)) / len(wanted)
