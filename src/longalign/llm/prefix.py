"""Prompts that begin alike: a local model reads their common beginning once, and then each prompt's rest.

Several questions about one long document differ in their last few tokens. Whatever comes before is the same work for
all of them: its keys and values are computed once and copied for each prompt.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

LEAST_TOKENS = 512
LEAST_SHARE = 0.5
"""A beginning is shared when it has this many tokens, and is this share of each prompt; less is not worth a copy."""

LENGTH_DEPENDENT = frozenset({"dynamic", "longrope"})


@dataclass(frozen=True)
class Family:
    """Prompts, by index, whose first `tokens` tokens are the same; each has at least one token more."""

    tokens: int
    members: tuple[int, ...]


def families(prompts: Sequence[Sequence[int]], kinds: Sequence[Hashable]) -> list[Family]:
    """Groups of two or more prompts that share enough; `kinds` of one family are equal. Others are left out."""
    arrays = [np.asarray(prompt, dtype=np.int64) for prompt in prompts]
    # beside each other in this order stand those with the longest common beginning
    order = sorted(range(len(prompts)), key=lambda at: (repr(kinds[at]), tuple(prompts[at])))
    found: list[Family] = []
    group: list[int] = []
    shared = longest = 0
    for at in order:
        if group and kinds[at] == kinds[group[0]]:
            both = min(shared, common_tokens(arrays[group[-1]], arrays[at]), len(arrays[at]) - 1)
            if both >= max(LEAST_TOKENS, LEAST_SHARE * max(longest, len(arrays[at]))):
                group, shared, longest = [*group, at], both, max(longest, len(arrays[at]))
                continue
        if len(group) > 1:
            found.append(Family(shared, tuple(group)))
        group, shared, longest = [at], len(arrays[at]) - 1, len(arrays[at])
    return [*found, Family(shared, tuple(group))] if len(group) > 1 else found


def common_tokens(a_T: np.ndarray[Any, Any], b_T: np.ndarray[Any, Any]) -> int:
    """How many tokens two prompts begin with that are the same."""
    length = min(len(a_T), len(b_T))
    unlike = np.flatnonzero(a_T[:length] != b_T[:length])
    return int(unlike[0]) if len(unlike) else length


def can_share(model: Any) -> bool:
    """Whether what a model remembers of a beginning can be copied and filled up: attention to all tokens, every layer.

    Sliding windows, and models that take no positions, would count padding between beginning and rest; recurrent states
    cannot be continued at will.
    """
    placed = "position_ids" in inspect.signature(model.forward).parameters
    return placed and layer_kinds(model) == {DynamicLayer}


def layer_kinds(model: Any) -> set[type]:
    """The kinds of cache layers of a model that can read a text in parts; none for one that cannot.

    Some RoPE scalings depend on the length of the text, so a part would be read otherwise than the whole.
    """
    if getattr(model, "_is_stateful", False) or not model._supports_default_dynamic_cache():
        return set()
    if LENGTH_DEPENDENT & set(_rope_types(model.config.get_text_config(decoder=True))):
        return set()
    try:
        return {type(layer) for layer in DynamicCache(config=model.config).layers}
    except (AttributeError, KeyError):  # a config of other people's code, which does not say what its layers are
        return set()


def _rope_types(config: Any) -> Iterator[str]:
    rope = getattr(config, "rope_parameters", None) or {}
    for part in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        yield str(part.get("rope_type"))


def read_beginning(model: Any, ids_T: Sequence[int]) -> DynamicCache:
    """Keys and values of a beginning, one row."""
    cache = DynamicCache(config=model.config)
    ids_1T = torch.tensor([list(ids_T)], device=model.device)
    model(input_ids=ids_1T, past_key_values=cache, use_cache=True, **kept(model, 1))
    return cache


def kept(model: Any, logits: int) -> dict[str, int]:
    """The argument with which a model computes the last `logits` logits only, where it has one."""
    return {"logits_to_keep": logits} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def copied(model: Any, cache: DynamicCache, rows: int) -> DynamicCache:
    """The same keys and values for `rows` prompts, in memory of their own."""
    copy = DynamicCache(config=model.config)
    for number, layer in enumerate(cache.layers):
        copy.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), number)
    return copy
