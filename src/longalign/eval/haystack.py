"""Long prompts with sentences hidden in them: exact in length, exact in place.

A prompt is `haystack with plants`, a blank line, a question. Its length counts everything the model reads (chat
template, question, plants). The haystack is verbatim text of the documents: it ends at the end of a sentence and its
beginning is trimmed to the length; plants stand between sentences, nearest to the requested depth.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from longalign.bundled.register import insert_sentences, sentence_starts
from longalign.errors import ConfigError, DataError
from longalign.eval.token_view import CJK, Offsets, TokenView
from longalign.llm.prompt import row_message

FIT_ROUNDS = 12


@dataclass(frozen=True)
class Plant:
    """A sentence that is put into a text, at a depth from 0 (start) to 1 (end)."""

    sentence: str
    depth: float


@dataclass(frozen=True)
class Prompt:
    """The prompt of one question. Positions are in tokens of the whole prompt, one for each plant."""

    content: str
    length_tokens: int
    plant_tokens: tuple[int, ...]
    repeats_text: bool


@dataclass(frozen=True)
class Haystack:
    """Documents with the character offsets of their tokens."""

    texts: tuple[str, ...]
    starts: tuple[Offsets, ...]

    @classmethod
    def build(cls, texts: Iterable[str], view: TokenView, enough_tokens: int) -> Haystack:
        """Take documents in order until they hold `enough_tokens`; `DataError` if there is no text at all."""
        kept, offsets, total = [], [], 0
        for text in texts:
            starts = view.starts(text)
            if len(starts) == 0:
                continue
            kept.append(text)
            offsets.append(starts)
            total += len(starts)
            if total >= enough_tokens:
                break
        if not kept:
            raise DataError("the haystack holds no text; give documents with --haystack PATH")
        return cls(tuple(kept), tuple(offsets))

    @property
    def tokens(self) -> int:
        return sum(len(starts) for starts in self.starts)

    def stream(self, rng: np.random.Generator, tokens: int) -> Stream:
        """Documents end to end in a drawn order, beginning at a drawn sentence, long enough for `tokens`."""
        order = rng.permutation(len(self.texts))
        first = int(order[0])
        boundaries = sentence_starts(self.texts[first])[:-1]
        begin = boundaries[int(rng.integers(len(boundaries)))]
        pieces: list[str] = []
        offsets: list[Offsets] = []
        have = chars = visited = 0
        while have < tokens + 512:  # some more, so that the last sentence can be completed
            index = int(order[visited % len(order)])
            text, starts = self.texts[index], self.starts[index]
            if visited == 0:
                text, starts = text[begin:], starts[np.searchsorted(starts, begin) :] - begin
            pieces.append(text + "\n\n")
            offsets.append(starts + chars)
            chars += len(text) + 2
            have += len(starts)
            visited += 1
        return Stream("".join(pieces), np.concatenate(offsets), visited > len(order))


@dataclass(frozen=True)
class Stream:
    """Text to take haystacks from; `repeats`: documents occur more than once in it."""

    text: str
    starts: Offsets
    repeats: bool

    def window(self, tokens: int) -> tuple[str, Offsets]:
        """About `tokens` tokens that end with a sentence and begin with a word, and where their tokens begin."""
        if tokens <= 0:
            return "", np.zeros(0, dtype=np.int64)
        reach = int(self.starts[min(tokens, len(self.starts) - 1)])
        boundaries = np.array(sentence_starts(self.text[: reach + 20_000]))
        later = boundaries[boundaries >= reach]
        end = int(later[0]) if len(later) else reach
        last = int(np.searchsorted(self.starts, end))
        begin = _word_start(self.text, int(self.starts[max(0, last - tokens)]))
        inside = self.starts[(self.starts >= begin) & (self.starts < end)]
        return self.text[begin:end].rstrip(), inside - begin


def hide(
    view: TokenView,
    stream: Stream,
    length_tokens: int,
    plants: Sequence[Plant],
    question: str,
    *,
    placed: int = 1,
    in_order: bool = False,
) -> Prompt:
    """The prompt of `length_tokens` (never more, a word or so less) with `plants` in it.

    The first plant gets the place nearest to its depth, the next ones the nearest that is left; with `in_order`, the
    places go to the plants by depth, so that none overtakes another. Positions of the first `placed` plants are told.
    Raises `ConfigError` where plants and question alone are longer.
    """
    shell = view.count(view.render([{"role": "user", "content": row_message("", question)}]))
    entries = sum(view.count(f" {plant.sentence}") for plant in plants)
    if shell + entries > length_tokens:
        raise ConfigError(
            f"prompt length {length_tokens} is too short: question and entries alone take {shell + entries} tokens; "
            "use longer prompts or fewer distractors"
        )
    budget, best = length_tokens - shell - entries, None
    for _ in range(FIT_ROUNDS):
        content = row_message(_compose(stream, budget, plants, in_order), question)
        text = view.render([{"role": "user", "content": content}])
        count = view.count(text)
        if count <= length_tokens and (best is None or count > best[2]):
            best = (content, text, count)
        if length_tokens - 4 <= count <= length_tokens or budget == 0:
            break
        budget = max(0, budget + length_tokens - count)
    if best is None:
        raise ConfigError(f"no haystack fits prompt length {length_tokens}; use longer prompts or fewer distractors")
    content, text, count = best
    places = tuple(view.count(text[: text.index(plant.sentence)]) for plant in plants[:placed])
    return Prompt(content, count, places, stream.repeats)


def _compose(stream: Stream, budget: int, plants: Sequence[Plant], in_order: bool) -> str:
    body, starts = stream.window(budget)
    boundaries = sentence_starts(body)
    at_token = np.searchsorted(starts, boundaries)
    free = np.ones(len(boundaries), dtype=bool)
    places = []
    for plant in plants:  # the first chooses first
        distance = np.abs(at_token - plant.depth * len(starts)) + np.where(free, 0, len(starts) + 1)
        choice = int(distance.argmin())
        free[choice] = False
        places.append(boundaries[choice] / max(1, len(body)))
    if in_order:
        plants = sorted(plants, key=lambda plant: plant.depth)
        places.sort()
    return insert_sentences(body, [plant.sentence for plant in plants], places)


def _word_start(text: str, place: int) -> int:
    """The first place at or after `place` where no word is cut; in scripts without spaces, `place` itself."""
    for here in range(place, min(place + 40, len(text))):
        around = text[max(0, here - 1) : here + 1]
        if here == 0 or not around.isalnum() or CJK.search(around):
            return here
    return place
