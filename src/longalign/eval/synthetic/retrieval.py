"""Retrieval: one value of a key, several values, several keys (RULER's needle tasks, arXiv 2404.06654, our texts)."""

from __future__ import annotations

from longalign.bundled.names import cities, numbers, places, uuids
from longalign.eval.needle_forms import QUESTION, SENTENCE, WHAT
from longalign.eval.synthetic.challenge import Challenge
from longalign.eval.synthetic.kind import Draw, Kind, Listed, Planted, others

SEVERAL = {
    "en": "What are all the special magic numbers for {key} mentioned in the text? There are {count}. "
    "Answer with the numbers only.",
    "zh": "文中提到的{key}的所有特别神奇数字是什么？共有{count}个。只回答这些数字。",
}
AND = {"en": ", ", "zh": "、"}


def sentence(draw: Draw, key: str, value: str, what: str = "number") -> str:
    """One fact."""
    return SENTENCE[draw.language].format(what=WHAT[draw.language][what], name=key, value=value)


def question(draw: Draw, key: str, what: str = "number") -> str:
    """The question for the value of one key."""
    return QUESTION[draw.language].format(what=WHAT[draw.language][what], name=key)


def single(draw: Draw, length_tokens: int, what: str = "number") -> Challenge:
    """One key among few others."""
    return _one_of(draw, 1 + 3, what)


def multi_key(draw: Draw, length_tokens: int) -> Challenge:
    """One key among as many as the length has."""
    return _one_of(draw, 1 + others(length_tokens), "number")


def _one_of(draw: Draw, count: int, what: str) -> Challenge:
    keys = cities(draw.rng, count, draw.language)
    values = numbers(draw.rng, count) if what == "number" else uuids(draw.rng, count)
    return Challenge(
        question=question(draw, keys[0], what),
        expected=(values[0],),
        wrong=tuple(values[1:]),
        plants=draw.plants([sentence(draw, key, value, what) for key, value in zip(keys, values, strict=True)]),
    )


def multi_value(draw: Draw, length_tokens: int, count: int = 4) -> Challenge:
    """All values of one key."""
    keys = cities(draw.rng, 1 + others(length_tokens), draw.language)
    values = numbers(draw.rng, count + len(keys) - 1)
    owners = [keys[0]] * count + keys[1:]
    return Challenge(
        question=SEVERAL[draw.language].format(key=keys[0], count=count),
        expected=tuple(values[:count]),
        wrong=tuple(values[count:]),
        plants=draw.plants([sentence(draw, key, value) for key, value in zip(owners, values, strict=True)]),
        placed=count,
    )


def multi_query(draw: Draw, length_tokens: int, count: int = 4) -> Challenge:
    """The values of several keys."""
    keys = cities(draw.rng, count + others(length_tokens), draw.language)
    values = numbers(draw.rng, len(keys))
    return Challenge(
        question=SEVERAL[draw.language].format(key=AND[draw.language].join(keys[:count]), count=count),
        expected=tuple(values[:count]),
        wrong=tuple(values[count:]),
        plants=draw.plants([sentence(draw, key, value) for key, value in zip(keys, values, strict=True)]),
        placed=count,
    )


def all_keys(draw: Draw, items: int) -> Challenge:
    """A text of nothing but facts of the same form."""
    keys = places(draw.rng, items, draw.language)
    values = numbers(draw.rng, items)
    asked = int(draw.rng.integers(items))
    gap = " " if draw.language == "en" else ""
    return Challenge(
        question=question(draw, keys[asked]),
        expected=(values[asked],),
        wrong=(*values[:asked], *values[asked + 1 :]),
        content=gap.join(sentence(draw, key, value) for key, value in zip(keys, values, strict=True)),
    )


KEY_VALUE = {
    "en": "The text is a JSON object. What is the value of the key {key}? Answer with the value only.",
    "zh": "上文是一个JSON对象。键{key}的值是什么？只回答这个值。",
}


def key_value(draw: Draw, items: int) -> Challenge:
    """A JSON object of random keys and values (Liu et al., arXiv 2307.03172)."""
    keys, values = uuids(draw.rng, items), uuids(draw.rng, items)
    asked = int(draw.rng.integers(items))
    lines = ",\n".join(f'  "{key}": "{value}"' for key, value in zip(keys, values, strict=True))
    return Challenge(
        question=KEY_VALUE[draw.language].format(key=keys[asked]),
        expected=(values[asked],),
        wrong=(*values[:asked], *values[asked + 1 :]),
        content=f"{{\n{lines}\n}}",
    )


KINDS: dict[str, Kind] = {
    "single": Planted(single),
    "single_uuid": Planted(lambda draw, length_tokens: single(draw, length_tokens, "uuid"), 64),
    "multi_key": Planted(multi_key),
    "multi_value": Planted(multi_value, 96),
    "multi_query": Planted(multi_query, 96),
    "all_keys": Listed(all_keys, 2),
    "key_value": Listed(key_value, 2, 64),
}
