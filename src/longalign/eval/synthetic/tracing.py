"""Following links: variables that are set to each other, facts about people in one or two steps, landmarks.

Variable tracking is RULER's idea (arXiv 2404.06654), a question without words of its fact NoLiMa's (2502.05167).
"""

from __future__ import annotations

from itertools import pairwise

from longalign.bundled.names import city_names, landmarks, numbers, people
from longalign.eval.haystack import Plant
from longalign.eval.synthetic.challenge import Challenge
from longalign.eval.synthetic.kind import Draw, Kind, Planted, others, steps

LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
SET = {
    "en": ("The variable {a} is {b}.", "The variable {a} is equal to {b}."),
    "zh": ("变量{a}是{b}。", "变量{a}等于{b}。"),
}
WHICH = {
    "en": "Which variables have the value {value}, directly or through other variables? There are {count}. "
    "Answer with their names only.",
    "zh": "哪些变量的值直接或通过其他变量等于{value}？共有{count}个。只回答变量名。",
}


def variable_tracking(draw: Draw, length_tokens: int) -> Challenge:
    """A chain of variables, each set to the one before, among shorter chains of the same kind."""
    length = 1 + steps(length_tokens)
    chains = 1 + max(1, others(length_tokens) // length)
    names = _variables(draw, chains * length)
    values = numbers(draw.rng, chains, digits=5)
    first, link = SET[draw.language]
    plants: list[Plant] = []
    for chain in range(chains):
        own = names[chain * length : (chain + 1) * length]
        said = [first.format(a=own[0], b=values[chain])]
        said += [link.format(a=b, b=a) for a, b in pairwise(own)]
        plants += [Plant(text, depth) for text, depth in zip(said, draw.rising(length), strict=True)]
    return Challenge(
        question=WHICH[draw.language].format(value=values[0], count=length),
        expected=tuple(names[:length]),
        wrong=tuple(names[length:]),
        plants=tuple(plants),
        placed=length,
        in_order=True,
    )


def _variables(draw: Draw, count: int) -> list[str]:
    """Names of four letters, no two the same."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(LETTERS[i] for i in draw.rng.integers(len(LETTERS), size=4))] = None
    return list(found)


LIVES = {"en": "{who} lives in {where}.", "zh": "{who}住在{where}。"}
LIVES_WHERE = {
    "en": "In which city does {who} live? Answer with the name of the city only.",
    "zh": "{who}住在哪个城市？只回答城市名。",
}
FRIEND = {"en": "The oldest friend of {a} is {b}.", "zh": "{a}最老的朋友是{b}。"}
FRIEND_WHERE = {
    "en": "In which city does the oldest friend of {who} live? Answer with the name of the city only.",
    "zh": "{who}最老的朋友住在哪个城市？只回答城市名。",
}


def one_step(draw: Draw, length_tokens: int) -> Challenge:
    """Where somebody lives, among others."""
    who = people(draw.rng, 1 + others(length_tokens), draw.language)
    homes = _homes(draw, len(who))
    said = [LIVES[draw.language].format(who=a, where=b) for a, b in zip(who, homes, strict=True)]
    return Challenge(
        question=LIVES_WHERE[draw.language].format(who=who[0]),
        expected=(homes[0],),
        wrong=_different(homes[1:], homes[0]),
        plants=draw.plants(said),
    )


def two_steps(draw: Draw, length_tokens: int) -> Challenge:
    """Where the friend of somebody lives: two sentences that only make sense together."""
    pairs = 1 + max(1, others(length_tokens) // 2)
    names = people(draw.rng, 2 * pairs, draw.language)
    owners, friends = names[:pairs], names[pairs:]
    homes = _homes(draw, pairs)
    said: list[str] = []
    for owner, friend, home in zip(owners, friends, homes, strict=True):
        said.append(FRIEND[draw.language].format(a=owner, b=friend))
        said.append(LIVES[draw.language].format(who=friend, where=home))
    return Challenge(
        question=FRIEND_WHERE[draw.language].format(who=owners[0]),
        expected=(homes[0],),
        wrong=_different(homes[1:], homes[0]),
        plants=draw.plants(said),
        placed=2,
    )


def _homes(draw: Draw, count: int) -> list[str]:
    names = city_names(draw.language)
    return [names[i] for i in draw.rng.integers(len(names), size=count)]


def _different(values: list[str], other: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value != other))


NEXT_TO = {"en": "{who} moved into a flat right beside {what}.", "zh": "{who}搬进了紧挨着{what}的一套公寓。"}
WHO_IN = {
    "en": "Who lives in {city}? Answer with the first and last name only.",
    "zh": "谁住在{city}？只回答姓名。",
}


def no_shared_words(draw: Draw, length_tokens: int) -> Challenge:
    """Who lives in a city, where the text names only what stands there."""
    places = list(landmarks(draw.language).items())
    count = min(len(places), 1 + others(length_tokens))
    chosen = [places[i] for i in draw.rng.choice(len(places), size=count, replace=False)]
    who = people(draw.rng, count, draw.language)
    said = [NEXT_TO[draw.language].format(who=name, what=what) for name, (_, what) in zip(who, chosen, strict=True)]
    return Challenge(
        question=WHO_IN[draw.language].format(city=chosen[0][0]),
        expected=(who[0],),
        wrong=tuple(who[1:]),
        plants=draw.plants(said),
    )


KINDS: dict[str, Kind] = {
    "variable_tracking": Planted(variable_tracking, 96),
    "one_step": Planted(one_step),
    "two_steps": Planted(two_steps),
    "no_shared_words": Planted(no_shared_words),
}
