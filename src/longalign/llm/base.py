"""The one interface to language models: requests in, replies or failures out.

Everything that calls a model (data construction, answers under test, judges, `longalign ask`) uses this
protocol. An endpoint, a local model directory and the offline stand-in are therefore interchangeable, and
one ledger caches and meters all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from longalign.errors import ModelError

Message = Mapping[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`."""
FailureKind = Literal[
    "truncated",  # the reply was cut by max_new_tokens: never data
    "thinking_truncated",  # the model was still thinking at max_new_tokens
    "only_thinking",  # thoughts, but no answer
    "empty",  # no text at all
    "incomplete",  # the finish reason does not say that the reply is complete
    "prompt_cut",  # the server read only a part of the prompt
    "moderated",  # a content filter stopped the request or the reply
    "too_long",  # the prompt does not fit the model's window
    "rejected",  # the endpoint refused this one request (HTTP 400, 413, 422)
    "unavailable",  # still failing after every retry (429, 5xx, timeout, lost connection)
    "malformed",  # the endpoint answered, but in no known form
    "over_budget",  # not sent: it could have passed the money cap
]


ENDED_BY_MODEL: tuple[FailureKind, ...] = ("truncated", "thinking_truncated", "only_thinking", "empty")
"""The model answered, if only with half an answer or none: an evaluation scores that."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One chat completion. `seed` only matters at a temperature above 0.

    `reasoning_effort`, `chat_template_kwargs` and `extra_body` go to the server as they are; a local model takes what
    its chat template knows. `shared_prefix_characters`: how much of the first user message other requests begin with
    too (a document), for endpoints that must be told what to cache. It changes no answer.
    """

    messages: tuple[Message, ...]
    max_new_tokens: int = 1024
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_p: float | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    shared_prefix_characters: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(dict(message) for message in self.messages))
        object.__setattr__(self, "stop", tuple(self.stop))

    @property
    def template_options(self) -> dict[str, Any]:
        """What a chat template in this process gets besides the messages."""
        effort = {} if self.reasoning_effort is None else {"reasoning_effort": self.reasoning_effort}
        return {**effort, **self.chat_template_kwargs}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is known of a call however it ended. Counts are None where nobody reports them (missing is not zero).

    `reasoning`: what the model thought, apart from its answer. `cleaned_characters`: control characters and the like
    that were taken out of the text (`thoughts.clean`).

    `priced_prompt_tokens`: what the prompt costs, in tokens at the plain price, where a cache makes the two differ.
    `own_temperature`: the endpoint refuses ours and samples at one of its own. `lost_attempts`: earlier attempts at the
    same call that got no answer and may be charged all the same.
    """

    prompt_tokens: int | None = None
    priced_prompt_tokens: float | None = None
    completion_tokens: int | None = None
    model: str = ""
    reasoning: str = ""
    cleaned_characters: int = 0
    own_temperature: bool = False
    lost_attempts: int = 0
    wall_s: float = 0.0
    cost_usd: float | None = None
    cached: bool = False


@dataclass(frozen=True, kw_only=True)
class Reply(Call):
    """A complete answer."""

    text: str
    finish_reason: str = "stop"


@dataclass(frozen=True, kw_only=True)
class Failure(Call):
    """Why there is no usable answer. `text` holds what did arrive, for instance a truncated reply.

    `maybe_billed`: the endpoint may charge for it though no token counts came back (a timeout, for instance).
    """

    kind: FailureKind
    message: str
    text: str = ""
    maybe_billed: bool = False

    @property
    def final(self) -> bool:
        """Whether the same request would fail again (it may be remembered) rather than only just now.

        What a cap or thinking ended is the model's answer to exactly this request; another cap is another request.
        `incomplete` and `prompt_cut` are the server's doing, and mended there: the same request is asked again.
        """
        return self.kind in (*ENDED_BY_MODEL, "moderated", "too_long", "rejected")


Outcome = Reply | Failure


@runtime_checkable
class LanguageModel(Protocol):
    """A model that completes chats.

    `name` identifies model and weights: it is part of every cache key and is written into every row.
    `batched` models answer many requests of one call together (a local model); the others (endpoints) are
    safe to call from many threads, one request each.
    """

    @property
    def name(self) -> str: ...

    @property
    def batched(self) -> bool: ...

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """Yields `(index, outcome)` once for every request, in any order.

        Raises:
            EndpointError: nothing can be answered (unreachable, no permission, unknown model).
            ModelError: a local model cannot answer chats.
        """
        ...


def complete_all(model: LanguageModel, requests: Iterable[Request]) -> list[Outcome]:
    """Outcomes in the order of the requests."""
    listed = list(requests)
    outcomes: list[Outcome | None] = [None] * len(listed)
    for index, outcome in model.complete(listed):
        outcomes[index] = outcome
    missing = [index for index, outcome in enumerate(outcomes) if outcome is None]
    if missing:
        raise ModelError(f"{model.name} gave no outcome for request {missing[0]} of {len(listed)}")
    return [outcome for outcome in outcomes if outcome is not None]


def check_extras(model: LanguageModel, request: Request) -> None:
    """Raise `ConfigError` or `ModelError` for extras of a request that this kind of model cannot honour."""
    check = getattr(model, "check_extras", None)
    if check is not None:
        check(request)


def has_answered(model: LanguageModel) -> None:
    """Tell an endpoint that it has answered requests like those to come, in this run or an earlier one.

    From then on no number of requests that fail on their own (HTTP 500, refused) ends the run: the others' answers are
    worth having. An evaluation wants that; a build of rows, which may draw other documents, does not.
    """
    told = getattr(innermost(model), "has_answered", None)
    if told is not None:
        told()


def innermost(model: LanguageModel) -> LanguageModel:
    """The model within ledgers and other wrappers."""
    while (inner := getattr(model, "model", None)) is not None and isinstance(inner, LanguageModel):
        model = inner
    return model


def close_model(model: LanguageModel) -> None:
    """Release the connections and files that a model holds, where it holds any."""
    close = getattr(model, "close", None)
    if close is not None:
        close()


def tokens_usd(price_usd_per_million: tuple[float, float], prompt_tokens: float, completion_tokens: float) -> float:
    """Money for tokens at a price of a million prompt tokens and of a million completion tokens."""
    return (prompt_tokens * price_usd_per_million[0] + completion_tokens * price_usd_per_million[1]) / 1e6
