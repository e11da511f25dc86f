"""Verb `ask`: one question about one document, to any model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from longalign.config.request import RequestSettings
from longalign.core.text import CHARACTERS_PER_TOKEN, HAN
from longalign.data.source import read_documents
from longalign.errors import ConfigError, EndpointError
from longalign.llm.base import Failure, Request, complete_all, innermost
from longalign.llm.extras import with_extras
from longalign.llm.open import open_model
from longalign.llm.prompt import row_message

MARK = "\n\n[...]\n\n"


def ask(
    model: str,
    document: Path,
    question: str,
    *,
    max_new_tokens: int = 512,
    window: int | None = None,
    temperature: float = 0.0,
    timeout_s: float = 600.0,
    extras: RequestSettings | None = None,
) -> dict[str, Any]:
    """Ask `model` (as in `open_model`) a question about a file; the prompt is that of a training row.

    `window`: tokens the model takes, prompt and answer together; default what a local model's config says. A longer
    document is cut in its middle, as the paper's evaluation does, and `notice` says so. Token counts of endpoints are
    estimates (a quarter of the characters; Han characters whole). `extras`: what else goes into the request.
    Returns `answer`, `notice`, `model`, token counts and `wall_s`; raises `EndpointError` where there is no answer.
    """
    if not question.strip():
        raise ConfigError("the question is empty; put it in quotes before --document")
    text = "\n\n".join(found.text for found in read_documents([document]))
    extras = extras or RequestSettings()
    opened = open_model(model, timeout_s=timeout_s, extras=extras)
    inner = innermost(opened)
    prompt_ids: Callable[..., list[int]] | None = getattr(inner, "prompt_ids", None)
    window = window or getattr(inner, "window", None)

    def asked(content: str) -> Request:
        messages = ({"role": "user", "content": content},)
        return with_extras(Request(messages=messages, max_new_tokens=max_new_tokens, temperature=temperature), extras)

    def prompt_tokens(content: str) -> int:
        if prompt_ids is not None:
            request = asked(content)
            return len(prompt_ids(request.messages, **request.template_options))
        return estimated_tokens(content)

    notices = []
    if window is not None:
        room = window - max_new_tokens
        kept = cut_middle(text, lambda part: prompt_tokens(row_message(part, question)) <= room)
        if kept is None:
            raise ConfigError(
                f"a window of {window} tokens has no room for question and {max_new_tokens} new tokens; "
                "give a smaller --max-new-tokens, or a model with a longer window"
            )
        if kept != text:
            notices.append(
                f"document cut in the middle: {len(kept):,} of {len(text):,} characters fit {window:,} tokens"
            )
        text = kept
    (outcome,) = complete_all(opened, [asked(row_message(text, question))])
    if isinstance(outcome, Failure):
        if outcome.kind != "truncated":
            raise EndpointError(f"{model}: no answer ({outcome.kind}: {outcome.message})")
        notices.append(f"answer cut at {max_new_tokens} tokens")
    return {
        "answer": outcome.text.strip(),
        "question": question,
        "document": str(document),
        "notice": "; ".join(notices),
        "model": outcome.model or opened.name,
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": outcome.completion_tokens,
        "wall_s": round(outcome.wall_s, 3),
    }


def cut_middle(text: str, fits: Callable[[str], bool]) -> str | None:
    """`text`, or the longest beginning and end of it, equally long, that fit; None when not even nothing fits."""
    if fits(text):
        return text
    low, high = -1, len(text) // 2  # characters kept at each end: `low` fits (-1: unknown), `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        if fits(_ends(text, middle)):
            low = middle
        else:
            high = middle
    return None if low < 0 else _ends(text, low)


def estimated_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is known: characters / 4, Han characters whole."""
    han = len(HAN.findall(text))
    return han + (len(text) - han) // CHARACTERS_PER_TOKEN + 1


def _ends(text: str, chars: int) -> str:
    return text[:chars] + MARK + text[len(text) - chars :] if chars else MARK.strip()
