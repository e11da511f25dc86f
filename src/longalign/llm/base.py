"""The one seam to language models: requests in, replies or failures out.

Everything that asks a model (data construction, answers under test, judges, `longalign ask`) speaks this
protocol, so that an endpoint, a local model directory and the offline stand-in are exchangeable, and so that
one ledger caches and meters all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from longalign.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from longalign.llm.ledger import Ledger

Message = Mapping[str, str]
"""`{"role": "system" | "user" | "assistant", "content": text}`."""

FailureKind = Literal[
    "truncated",  # the reply was cut by max_new_tokens: never data
    "moderated",  # a content filter stopped the request or the reply
    "too_long",  # the prompt does not fit the model's window
    "rejected",  # the endpoint refused this one request (HTTP 400, 413, 422)
    "unavailable",  # still failing after every retry (429, 5xx, timeout, lost connection)
    "malformed",  # the endpoint answered, but in no known form
    "over_budget",  # not sent: it could have passed the money cap
]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One chat completion. `seed` only matters at a temperature above 0.

    `shared_prefix_characters`: how much of the first user message other requests begin with too (a document), for
    endpoints that must be told what to cache. It changes no answer.
    """

    messages: tuple[Message, ...]
    max_new_tokens: int = 1024
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    shared_prefix_characters: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(dict(message) for message in self.messages))
        object.__setattr__(self, "stop", tuple(self.stop))


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is known of a call however it ended. Counts are None where nobody reports them (missing is not zero).

    `priced_prompt_tokens`: what the prompt costs, in tokens at the plain price, where a cache makes the two differ.
    `own_temperature`: the endpoint refuses ours and samples at one of its own. `lost_attempts`: earlier attempts at the
    same call that got no answer and may be charged all the same.
    """

    prompt_tokens: int | None = None
    priced_prompt_tokens: float | None = None
    completion_tokens: int | None = None
    model: str = ""
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
        """Whether the same request would fail again (it may be remembered) rather than only just now."""
        return self.kind in ("truncated", "moderated", "too_long", "rejected")


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


def close_model(model: LanguageModel) -> None:
    """Release the connections and files that a model holds, where it holds any."""
    close = getattr(model, "close", None)
    if close is not None:
        close()


def is_endpoint(spec: str) -> bool:
    """Whether a spec names something behind HTTP, whose calls may cost money."""
    return spec.startswith(("openai:", "anthropic:"))


def check_model(spec: str) -> None:
    """Raise for a spec that cannot be opened, without a call and without loading weights."""
    if is_endpoint(spec):
        close_model(open_model(spec))
    elif not spec.startswith(("offline", "builtin:", "hf:")) and "/" not in spec and not Path(spec).is_dir():
        raise ModelError(
            f"{spec}: no such model directory; endpoints are written openai:MODEL@BASE_URL or anthropic:MODEL"
        )


def open_model(
    spec: str,
    *,
    ledger: Path | Ledger | None = None,
    concurrency: int = 8,
    batch_tokens: int = 16384,
    price_usd_per_million: tuple[float, float] | None = None,
    max_cost_usd: float | None = None,
    timeout_s: float = 600.0,
    device: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    chat_template: str | None = None,
) -> LanguageModel:
    """The model a spec names.

    Args:
        spec: `offline` (extractive stand-in), `offline-judge`, `openai:MODEL@BASE_URL` (any endpoint that
            speaks OpenAI's chat protocol; the key comes from OPENAI_API_KEY only), `anthropic:MODEL` (key:
            ANTHROPIC_API_KEY), `hf:DIR_OR_ID`, or a plain model directory, hub id or `builtin:NAME`.
        ledger: SQLite file that remembers every reply by content and meters the spend over resumes.
        concurrency: calls under way at once (endpoints).
        batch_tokens: prompt and new tokens a local model holds at once.
        price_usd_per_million: price of a million prompt and completion tokens.
        max_cost_usd: no call is made that could pass this sum; needs `ledger` and the price.
        chat_template: Jinja text for a local model, in the place of its tokenizer's own.

    Raises:
        ConfigError: the spec has no known form, or a cap lacks a price.
        ModelError: no such local model.
    """
    model = _open(
        spec,
        {
            "concurrency": concurrency,
            "timeout_s": timeout_s,
            "batch_tokens": batch_tokens,
            "device": device,
            "dtype": dtype,
            "trust_remote_code": trust_remote_code,
            "chat_template": chat_template,
        },
    )
    if max_cost_usd is not None and ledger is None:
        raise ConfigError("max_cost_usd needs a ledger file: the cap holds over resumes only if calls are recorded")
    if ledger is None:
        return model
    from longalign.llm.ledger import Ledger, LedgeredModel

    if isinstance(ledger, Path):
        ledger = Ledger(ledger, durable=is_endpoint(spec))
    free = not is_endpoint(spec)
    if max_cost_usd is not None and price_usd_per_million is None and not free:
        raise ConfigError(
            "max_cost_usd needs price_usd_per_million: give the price of a million input and output tokens, "
            'for example `--price_usd_per_million "[2.5, 10]"`'
        )
    price = (0.0, 0.0) if free else price_usd_per_million
    return LedgeredModel(model, ledger, price=price, max_cost_usd=max_cost_usd)


def _open(spec: str, options: dict[str, Any]) -> LanguageModel:
    if spec == "offline":
        from longalign.llm.offline import OfflineModel

        return OfflineModel()
    if spec == "offline-judge":
        from longalign.llm.offline_judge import OfflineJudge

        return OfflineJudge()
    if spec.startswith("openai:"):
        from longalign.llm.openai_compatible import OpenAICompatibleModel, parse_endpoint

        model, base_url = parse_endpoint(spec)
        return OpenAICompatibleModel(
            model, base_url, concurrency=options["concurrency"], timeout_s=options["timeout_s"]
        )
    if spec.startswith("anthropic:"):
        from longalign.llm import anthropic_messages

        model, base_url = anthropic_messages.parse_endpoint(spec)
        return anthropic_messages.AnthropicModel(
            model, base_url, concurrency=options["concurrency"], timeout_s=options["timeout_s"]
        )
    if not spec or spec.startswith("offline"):
        raise ConfigError(
            f"llm `{spec}` has no known form; use `offline`, `openai:MODEL@BASE_URL`, `anthropic:MODEL`, or a model "
            "directory"
        )
    from longalign.llm.local import LocalModel

    return LocalModel(
        spec.removeprefix("hf:"),
        batch_tokens=options["batch_tokens"],
        device=options["device"],
        dtype=options["dtype"],
        trust_remote_code=options["trust_remote_code"],
        chat_template=options["chat_template"],
    )
