"""Questions that need the whole text: counting, sums, order, frequent words, the n-th of equal requests.

Common and frequent words are RULER's tasks (arXiv 2404.06654), the n-th of equal requests is MRCR's idea (2409.12640).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from longalign.bundled.names import cities, pairs_of_words
from longalign.bundled.register import word_pool
from longalign.eval.haystack import Plant
from longalign.eval.synthetic.challenge import Challenge
from longalign.eval.synthetic.kind import Draw, Kind, Listed, Planted, many, others

BELL = {"en": "At {hour} o'clock the bell of {where} rang.", "zh": "在{hour}点钟，{where}的钟响了。"}
HOW_OFTEN = {
    "en": "How many times does the text say that the bell of {where} rang? Answer with a number only.",
    "zh": "文中说{where}的钟响了几次？只回答一个数字。",
}


def counting(draw: Draw, length_tokens: int) -> Challenge:
    """How often something is said, among the same about others."""
    count = int(draw.rng.integers(2, many(length_tokens) + 1))
    where = cities(draw.rng, 1 + others(length_tokens) // 2, draw.language)
    times = [count, *(int(n) for n in draw.rng.integers(1, 3, size=len(where) - 1))]
    said = [
        BELL[draw.language].format(hour=hour, where=place)
        for place, often in zip(where, times, strict=True)
        for hour in _different(draw, often, 1, 13)
    ]
    return Challenge(
        question=HOW_OFTEN[draw.language].format(where=where[0]),
        expected=(str(count),),
        plants=draw.plants(said),
        placed=count,
        only_number=True,
    )


CRATES = {"en": "{who} took {count} crates on board.", "zh": "{who}装了{count}箱货。"}
HOW_MANY = {
    "en": "How many crates did {who} take on board in all? Answer with a number only.",
    "zh": "{who}一共装了多少箱货？只回答一个数字。",
}
SHIP = {"en": "The ship from {where}", "zh": "来自{where}的船"}
THE_SHIP = {"en": "the ship from {where}", "zh": "来自{where}的船"}


def adding(draw: Draw, length_tokens: int) -> Challenge:
    """A sum over the text, among the same about others."""
    count = max(2, many(length_tokens) - 1)
    where = cities(draw.rng, 1 + others(length_tokens) // 2, draw.language)
    crates = [_different(draw, count if place == where[0] else 2, 2, 30) for place in where]
    said = [
        CRATES[draw.language].format(who=SHIP[draw.language].format(where=place), count=number)
        for place, taken in zip(where, crates, strict=True)
        for number in taken
    ]
    return Challenge(
        question=HOW_MANY[draw.language].format(who=THE_SHIP[draw.language].format(where=where[0])),
        expected=(str(sum(crates[0])),),
        plants=draw.plants(said),
        placed=count,
        only_number=True,
    )


def _different(draw: Draw, count: int, low: int, high: int) -> list[int]:
    """Different numbers from `low` to below `high`, so that no sentence is said twice."""
    return [int(low + i) for i in draw.rng.choice(high - low, size=count, replace=False)]


VISITED = {
    "en": "Then the {what} stopped at {where}.",
    "zh": "然后{what}停在了{where}。",
}
VEHICLES = {"en": ("train", "bus"), "zh": ("火车", "汽车")}
IN_WHICH_ORDER = {
    "en": "In which order did the train stop at these places: {places}? Answer with the names only, first stop first.",
    "zh": "火车按什么顺序停靠以下地点：{places}？只回答地名，先停的在前。",
}


def ordering(draw: Draw, length_tokens: int) -> Challenge:
    """Places in the order of the text, among the stops of a bus; the question names them in another order."""
    count = many(length_tokens)
    names = cities(draw.rng, count + others(length_tokens), draw.language)
    where, elsewhere = names[:count], names[count:]
    asked = sorted(where)
    if asked == where:
        asked.reverse()
    comma = ", " if draw.language == "en" else "、"
    train, bus = (
        [VISITED[draw.language].format(what=what, where=place) for place in places]
        for what, places in zip(VEHICLES[draw.language], (where, elsewhere), strict=True)
    )
    stops = [Plant(text, depth) for text, depth in zip(train, draw.rising(count), strict=True)]
    return Challenge(
        question=IN_WHICH_ORDER[draw.language].format(places=comma.join(asked)),
        expected=tuple(where),
        wrong=tuple(elsewhere),
        plants=(*stops, *draw.plants(bus)),
        placed=count,
        in_order=True,
        sequence=True,
    )


COMMON = {
    "en": "Which {count} words stand in the list most often? Answer with these words only.",
    "zh": "列表中出现次数最多的{count}个词是什么？只回答这些词。",
}


def common_words(draw: Draw, items: int) -> Challenge:
    """Five words that stand in a list three times as often as all others."""
    return _frequent(draw, items, 5, lambda number: 3 if number < 5 else 1)


def frequent_words(draw: Draw, items: int) -> Challenge:
    """The three most frequent words: they stand 15, 9 and 7 times in the list, all others once."""
    return _frequent(draw, items, 3, lambda number: 3 + 12 // (number + 1) if number < 3 else 1)


def _frequent(draw: Draw, items: int, asked: int, times: Callable[[int], int]) -> Challenge:
    pool = word_pool(draw.language)
    singles = [pool[i] for i in draw.rng.permutation(len(pool))]
    expected = singles[:asked]
    words = [*singles, *_longer(draw, items - len(singles), expected)][:items]
    listed = [word for number, word in enumerate(words) for _ in range(times(number))]
    order = draw.rng.permutation(len(listed))
    return Challenge(
        question=COMMON[draw.language].format(count=asked),
        expected=tuple(expected),
        wrong=tuple(words[asked:]),
        content="\n".join(f"{place}. {listed[i]}" for place, i in enumerate(order, 1)),
    )


def _longer(draw: Draw, count: int, expected: Sequence[str]) -> list[str]:
    """Words that are made of two, for lists longer than the pool; none of two that are asked for."""
    if count <= 0:
        return []
    pairs = (pair.split() for pair in pairs_of_words(draw.rng, count + len(expected) ** 2, draw.language))
    return ["".join(pair) for pair in pairs if not set(pair) <= set(expected)][:count]


NOTE = {"en": "Please note {topic}: {value}.", "zh": "请记下{topic}：{value}。"}
TOPIC = {"en": ("the door", "the crew", "the meal", "the road"), "zh": ("门", "船员", "饭", "路")}
NTH = {
    "en": "The text asks several times to note {topic}. What was to be noted the {nth} time? "
    "Answer with the two words only.",
    "zh": "文中多次要求记下{topic}。第{nth}次要记下的是什么？只回答那两个词。",
}
ORDINAL = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def nth_request(draw: Draw, items: int) -> Challenge:
    """What the n-th of equal requests said, among equal requests about other topics."""
    topics = TOPIC[draw.language]
    values = pairs_of_words(draw.rng, items, draw.language)
    about = draw.rng.integers(len(topics), size=items)
    asked = int(np.bincount(about, minlength=len(topics)).argmax())
    own = np.flatnonzero(about == asked)
    nth = int(draw.rng.integers(min(len(own), len(ORDINAL))))
    right = values[own[nth]]
    said = [
        NOTE[draw.language].format(topic=topics[topic], value=value) for topic, value in zip(about, values, strict=True)
    ]
    return Challenge(
        question=NTH[draw.language].format(topic=topics[asked], nth=ORDINAL[nth] if draw.language == "en" else nth + 1),
        expected=(right,),
        wrong=tuple(value for value in values if value != right),
        content="\n".join(said),
    )


KINDS: dict[str, Kind] = {
    "counting": Planted(counting),
    "adding": Planted(adding),
    "ordering": Planted(ordering, 96),
    "common_words": Listed(common_words, 8, 64),
    "frequent_words": Listed(frequent_words, 8, 64),
    "nth_request": Listed(nth_request, 4),
}
