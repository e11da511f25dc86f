"""Puts the extras of `RequestSettings` into every request, in one place: whoever builds requests need not know them.

The wrapper stands outside of the ledger, so what is asked, remembered and priced is the request with its extras.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from longalign.config.request import RequestSettings
from longalign.llm.base import LanguageModel, Outcome, Request, close_model
from longalign.llm.reply import Habits


def with_extras(request: Request, settings: RequestSettings) -> Request:
    """The request as `settings` want it. A request's own system message and values stay."""
    messages = request.messages
    if settings.system_prompt and not any(message["role"] == "system" for message in messages):
        messages = ({"role": "system", "content": settings.system_prompt}, *messages)
    return replace(
        request,
        messages=messages,
        top_p=settings.top_p if request.top_p is None else request.top_p,
        reasoning_effort=request.reasoning_effort or settings.reasoning_effort,
        chat_template_kwargs={**settings.chat_template_kwargs, **request.chat_template_kwargs},
        extra_body={**settings.extra_body, **request.extra_body},
    )


def habits_of(settings: RequestSettings) -> Habits:
    """What the settings say about how an endpoint's replies are to be read."""
    return Habits(
        complete=frozenset(reason.lower() for reason in settings.finish_reasons),
        counts_prompts=settings.check_prompt_tokens,
    )


class WithExtras:
    """A model that gets every request with the extras of `settings`."""

    def __init__(self, model: LanguageModel, settings: RequestSettings) -> None:
        self.model = model
        self.settings = settings
        self.name = model.name
        self.batched = model.batched

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`."""
        return self.model.complete([with_extras(request, self.settings) for request in requests])

    def close(self) -> None:
        """Close the model within."""
        close_model(self.model)
