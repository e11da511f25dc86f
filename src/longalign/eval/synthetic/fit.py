"""The prompt of a question, as long as it is to be: text around plants, or as many items as fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from longalign.bundled.register import Language
from longalign.errors import ConfigError
from longalign.eval.haystack import Haystack, hide
from longalign.eval.synthetic.challenge import Challenge
from longalign.eval.synthetic.kind import Draw, Kind, Listed
from longalign.eval.token_view import TokenView
from longalign.llm.prompt import row_message

ROUNDS = 40
PRECISE = 0.02
"""A list is long enough from 98% of its length on; its items are not divided."""


@dataclass(frozen=True)
class Fitted:
    """A question with its prompt. `answer_tokens`: where the sentences that hold the answer begin."""

    challenge: Challenge
    content: str
    length_tokens: int
    answer_tokens: tuple[int, ...]


def fit(
    kind: Kind,
    name: str,
    length_tokens: int,
    view: TokenView,
    haystack: Haystack | None,
    rng: Callable[[str], np.random.Generator],
    language: Language,
) -> Fitted:
    """A prompt of `length_tokens` at most. `rng`: the generator of a part of this question (`items`, `text`).

    Raises `ConfigError` where the length has no room for the shortest question of this kind.
    """
    if isinstance(kind, Listed):
        return _listed(kind, name, length_tokens, view, lambda: Draw(rng("items"), language))
    assert haystack is not None
    challenge = kind.make(Draw(rng("items"), language), length_tokens)
    stream = haystack.stream(rng("text"), length_tokens)
    prompt = hide(
        view,
        stream,
        length_tokens,
        challenge.plants,
        challenge.question,
        placed=challenge.placed,
        in_order=challenge.in_order,
    )
    return Fitted(challenge, prompt.content, prompt.length_tokens, prompt.plant_tokens)


def _listed(kind: Listed, name: str, length_tokens: int, view: TokenView, draw: Callable[[], Draw]) -> Fitted:
    """The most items that fit, by secant steps between a number that fits and one that does not."""

    def made(items: int) -> Fitted:
        challenge = kind.make(draw(), items)
        content = row_message(challenge.content, challenge.question)
        tokens = view.count(view.render([{"role": "user", "content": content}]))
        return Fitted(challenge, content, tokens, ())

    best = made(kind.fewest)
    if best.length_tokens > length_tokens:
        raise ConfigError(
            f"synthetic task {name}: prompt length {length_tokens} is too short; the shortest prompt has "
            f"{best.length_tokens} tokens"
        )
    fits, too_many, items = kind.fewest, 0, 4 * kind.fewest
    for _ in range(ROUNDS):
        if too_many and items >= too_many:
            items = (fits + too_many) // 2
        if items <= fits:
            break
        tried = made(items)
        if tried.length_tokens > length_tokens:
            too_many = items
        else:
            fits, best = items, tried
            if best.length_tokens >= (1 - PRECISE) * length_tokens:
                break
        items = max(fits + 1, int(items * (1 - PRECISE / 3) * length_tokens / tried.length_tokens))
    return best
