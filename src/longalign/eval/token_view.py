"""How long a prompt is and where its tokens begin, with any tokenizer, or estimated without one.

Needles and cuts are placed in *text*; a tokenizer only says at which characters its tokens begin. So nothing
here depends on the id of a full stop in one vocabulary (the paper's script looked for ChatGLM's id of it,
which put every needle of every other model at the very start).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from longalign.bundled.register import SENTENCE_END
from longalign.config.request import RequestSettings
from longalign.core.text import CHARACTERS_PER_TOKEN
from longalign.llm.base import Request
from longalign.llm.extras import with_extras

Offsets = NDArray[np.int64]
CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


class TokenView(Protocol):
    """A prompt seen as tokens."""

    unit: str

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text the model is given for `messages`, up to where its answer begins."""
        ...

    def starts(self, text: str) -> Offsets:
        """Character offset at which each token of `text` begins, ascending."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a rendered prompt, those included that the tokenizer adds by itself."""
        ...


class TokenizerView:
    """Exact, by a Hugging Face tokenizer and its chat template."""

    unit = "tokens"

    def __init__(self, tokenizer: Any, extras: RequestSettings | None = None) -> None:
        """`extras`: what else goes to the model, a system prompt for instance."""
        self.tokenizer = tokenizer
        self.extras = extras or RequestSettings()
        self.templated = bool(getattr(tokenizer, "chat_template", None))

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        request = with_extras(Request(messages=tuple(messages)), self.extras)
        if self.templated:
            return str(
                self.tokenizer.apply_chat_template(
                    list(request.messages), tokenize=False, add_generation_prompt=True, **request.template_options
                )
            )
        return "\n\n".join(m["content"] for m in request.messages)

    def starts(self, text: str) -> Offsets:
        if not self.tokenizer.is_fast:
            return self._starts_by_sentence(text)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return np.array([start for start, _ in encoded["offset_mapping"]], dtype=np.int64)

    def count(self, text: str) -> int:
        ids = self.tokenizer(text, add_special_tokens=not self.templated, verbose=False)["input_ids"]
        return len(ids)

    def _starts_by_sentence(self, text: str) -> Offsets:
        """For tokenizers without offsets: sentence by sentence, tokens of one sentence spread evenly."""
        edges = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
        starts: list[Offsets] = []
        for begin, end in pairwise(edges):
            if end > begin:
                size = len(self.tokenizer(text[begin:end], add_special_tokens=False, verbose=False)["input_ids"])
                starts.append(np.linspace(begin, end, size, endpoint=False).astype(np.int64))
        return np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)


class CharacterView:
    """An estimate for endpoints whose tokenizer is not at hand: four characters a token, CJK characters one."""

    unit = "characters / 4 (CJK characters 1 each): an estimate; see the endpoint's own prompt_tokens"

    def __init__(self, extras: RequestSettings | None = None) -> None:
        self.extras = extras or RequestSettings()

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        request = with_extras(Request(messages=tuple(messages)), self.extras)
        return "\n\n".join(m["content"] for m in request.messages)

    def starts(self, text: str) -> Offsets:
        share = np.full(len(text), 1 / CHARACTERS_PER_TOKEN)
        share[[match.start() for match in CJK.finditer(text)]] = 1
        reached = np.floor(np.cumsum(share) - share + 1e-9)
        return np.flatnonzero(np.diff(reached, prepend=-1) > 0).astype(np.int64)

    def count(self, text: str) -> int:
        return len(self.starts(text))


def cut_to(text: str, view: TokenView, keep_tokens: int | None) -> tuple[str, int]:
    """`text`, if need be without its middle (`cut_middle`), and how many tokens that took; None cuts nothing."""
    kept = text if keep_tokens is None else cut_middle(text, view, keep_tokens)
    return kept, 0 if kept is text else view.count(text) - view.count(kept)


def cut_middle(text: str, view: TokenView, keep_tokens: int) -> str:
    """`text` without its middle, so that about `keep_tokens` remain: the first half of them and the last.

    The cut is made between characters of the text, not by decoding ids, so what remains is verbatim.
    """
    starts = view.starts(text)
    if len(starts) <= keep_tokens:
        return text
    head = keep_tokens // 2
    tail = keep_tokens - head
    return text[: int(starts[head])] + (text[int(starts[len(starts) - tail]) :] if tail else "")
