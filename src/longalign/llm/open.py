"""Opens a model by its spec: `offline`, `openai:MODEL@BASE_URL`, `anthropic:MODEL` or a directory.

A new provider is a function and a line in `PROVIDERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longalign.base.sources import Named
from longalign.errors import ConfigError, ModelError
from longalign.llm.base import LanguageModel, Request, check_extras, close_model, tokens_usd
from longalign.llm.extras import WithExtras, habits_of, with_extras

if TYPE_CHECKING:
    from longalign.config.executor import ExecutorSettings
    from longalign.config.request import RequestSettings
    from longalign.llm.ledger import Ledger
    from longalign.llm.ledgered import LedgeredModel
    from longalign.llm.reply import Habits


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """How a model is opened; a provider takes what concerns it. See `open_model`."""

    concurrency: int
    timeout_s: float
    batch_tokens: int
    device: str | None
    dtype: str | None
    trust_remote_code: bool
    chat_template: str | None
    share_prefixes: bool
    habits: Habits | None = None
    prompts: str | None = None
    gpus: int = 1
    vllm_engine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Provider:
    """Opens the models of one kind of spec. `form`: how a person writes it. `endpoint`: calls go over HTTP and may
    cost money, so they are recorded durably and priced. `weights`: the process that opens it computes with them."""

    form: str
    open: Callable[[str, OpenOptions], LanguageModel]
    endpoint: bool = False
    weights: bool = False


def open_offline(spec: str, options: OpenOptions) -> LanguageModel:
    """The extractive stand-in."""
    from longalign.llm.offline import OfflineModel

    return OfflineModel(options.prompts)


def open_offline_judge(spec: str, options: OpenOptions) -> LanguageModel:
    """The stand-in for a judge."""
    from longalign.llm.offline_judge import OfflineJudge

    return OfflineJudge()


def open_openai(spec: str, options: OpenOptions) -> LanguageModel:
    """Any endpoint that speaks OpenAI's chat protocol."""
    from longalign.llm.openai import OpenAICompatibleModel, parse_endpoint

    model, base_url = parse_endpoint(spec)
    return OpenAICompatibleModel(
        model, base_url, habits=options.habits, concurrency=options.concurrency, timeout_s=options.timeout_s
    )


def open_anthropic(spec: str, options: OpenOptions) -> LanguageModel:
    """Claude through Anthropic's protocol."""
    from longalign.llm.anthropic import AnthropicModel, parse_endpoint

    model, base_url = parse_endpoint(spec)
    return AnthropicModel(
        model, base_url, habits=options.habits, concurrency=options.concurrency, timeout_s=options.timeout_s
    )


def open_local(spec: str, options: OpenOptions) -> LanguageModel:
    """A model directory, hub id or `builtin:NAME`, in this process."""
    from longalign.llm.local import LocalModel

    return LocalModel(
        path_of(spec),
        batch_tokens=options.batch_tokens,
        device=options.device,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        chat_template=options.chat_template,
        share_prefixes=options.share_prefixes,
    )


def open_vllm(spec: str, options: OpenOptions) -> LanguageModel:
    """A model directory or hub id, by vLLM in this process."""
    from longalign.llm.vllm import VllmModel

    return VllmModel(
        path_of(spec),
        gpus=options.gpus,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        chat_template=options.chat_template,
        engine=options.vllm_engine,
    )


LOCAL = Provider("a model directory", open_local, weights=True)
VLLM = Provider("`vllm:DIR`", open_vllm, weights=True)
PROVIDERS: dict[str, Provider] = {
    "offline": Provider("`offline`", open_offline),
    "offline-judge": Provider("`offline-judge`", open_offline_judge),
    "openai:": Provider("`openai:MODEL@BASE_URL`", open_openai, endpoint=True),
    "anthropic:": Provider("`anthropic:MODEL`", open_anthropic, endpoint=True),
    "vllm:": VLLM,
    "hf:": LOCAL,
}
"""Keyed by the whole spec, or by its prefix including the first colon. Any other spec is a local model."""


def provider_of(spec: str) -> Provider:
    """The provider that opens the model of a spec. Raises `ConfigError` for a spec of unknown form."""
    word, colon, _ = spec.partition(":")
    if known := PROVIDERS.get(spec) or PROVIDERS.get(word + colon if colon else ""):
        return known
    if not spec or spec.startswith("offline"):
        forms = ", ".join(known.form for known in PROVIDERS.values() if known is not LOCAL)
        raise ConfigError(f"llm `{spec}` has no known form; use {forms}, or {LOCAL.form}")
    return LOCAL


def is_endpoint(spec: str) -> bool:
    """Whether a spec names something behind HTTP, whose calls may cost money."""
    return bool(spec) and provider_of(spec).endpoint


def has_weights(spec: str) -> bool:
    """Whether a spec names weights, which a process of ours loads."""
    return bool(spec) and provider_of(spec).weights


def is_vllm(spec: str) -> bool:
    """Whether vLLM computes with them."""
    return provider_of(spec) is VLLM


def path_of(spec: str) -> str:
    """The directory, hub id or bundled name of weights."""
    return spec.removeprefix("vllm:").removeprefix("hf:")


def expected_cost_usd(
    spec: str, price_usd_per_million: tuple[float, float] | None, prompt_tokens: float, completion_tokens: float
) -> float | None:
    """Money for so many tokens of a model: 0 for one that is no endpoint, None without a price."""
    if not is_endpoint(spec):
        return 0.0
    if price_usd_per_million is None:
        return None
    return round(tokens_usd(price_usd_per_million, prompt_tokens, completion_tokens), 4)


def check_model(spec: str) -> None:
    """Raise for a spec that cannot be opened, without a call and without loading weights."""
    provider = provider_of(spec)
    if provider.endpoint:
        close_model(open_model(spec))
    elif provider is LOCAL and not spec.startswith("hf:") and "/" not in spec and not Named(spec).here:
        raise ModelError(
            f"{spec}: no such model directory; endpoints are written openai:MODEL@BASE_URL or anthropic:MODEL"
        )


def check_batch_api(spec: str) -> None:
    """Raise `ConfigError` for a spec of a model of which no batch API is known."""
    if not spec.startswith("openai:"):
        raise ConfigError(
            f"executor batch: no batch API is known of `{spec}`; use openai:MODEL@URL, or --executor local"
        )


def in_batches(
    spec: str,
    model: LanguageModel,
    ledger: Ledger,
    price: tuple[float, float] | None,
    max_cost_usd: float | None,
    settings: ExecutorSettings,
) -> LedgeredModel:
    """A model behind its provider's batch API. `price`: of plain calls. Raises `ConfigError` where there is none."""
    from longalign.llm.batched import BatchedModel
    from longalign.llm.openai import OpenAICompatibleModel

    check_batch_api(spec)
    assert isinstance(model, OpenAICompatibleModel)
    share = settings.batch_price_share
    reduced = None if price is None else (price[0] * share, price[1] * share)
    return BatchedModel(model, ledger, price=reduced, max_cost_usd=max_cost_usd, settings=settings)


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
    share_prefixes: bool = True,
    extras: RequestSettings | None = None,
    prompts: str | None = None,
    batch: ExecutorSettings | None = None,
    vllm_engine: Mapping[str, Any] | None = None,
    provider: Provider | None = None,
) -> LanguageModel:
    """The model a spec names.

    Args:
        spec: `offline` (extractive stand-in), `offline-judge`, `openai:MODEL@BASE_URL` (any endpoint that
            speaks OpenAI's chat protocol; the key comes from OPENAI_API_KEY only), `anthropic:MODEL` (key:
            ANTHROPIC_API_KEY), `vllm:DIR_OR_ID`, `hf:DIR_OR_ID`, or a plain model directory, hub id or `builtin:NAME`.
        ledger: SQLite file that remembers every reply by content and meters the spend over resumes.
        concurrency: calls under way at once (endpoints).
        batch_tokens: prompt and new tokens a local model holds at once.
        price_usd_per_million: price of a million prompt and completion tokens.
        max_cost_usd: no call is made that could pass this sum; needs `ledger` and the price.
        chat_template: Jinja text for a local model, in the place of its tokenizer's own.
        share_prefixes: a local model reads a beginning that several prompts of one call have in common once.
        extras: what goes into every request (system prompt, `top_p`, ...), and how this endpoint's replies are read.
        prompts: folder of prompts of one's own, which the stand-in must know to read them.
        batch: ask through the provider's batch API, at `batch_price_share` of the price; needs `ledger`.
        vllm_engine: further arguments of vLLM's engine.
        provider: opens the model, in the place of the provider that the spec names.

    Raises:
        ConfigError: the spec has no known form, a cap lacks a price, or the provider has no place for an extra.
        ModelError: no such local model.
    """
    options = OpenOptions(
        concurrency=concurrency,
        timeout_s=timeout_s,
        batch_tokens=batch_tokens,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        chat_template=chat_template,
        share_prefixes=share_prefixes,
        habits=habits_of(extras) if extras else None,
        prompts=prompts,
        vllm_engine=vllm_engine or {},
    )
    model = (provider or provider_of(spec)).open(spec, options)
    if extras is not None:
        check_extras(model, with_extras(Request(messages=()), extras))
    if max_cost_usd is not None and ledger is None:
        raise ConfigError("max_cost_usd needs a ledger file: the cap holds over resumes only if calls are recorded")
    if ledger is None:
        return model if extras is None else WithExtras(model, extras)
    from longalign.llm.ledger import Ledger
    from longalign.llm.ledgered import LedgeredModel

    if isinstance(ledger, Path):
        ledger = Ledger(ledger, durable=is_endpoint(spec))
    free = not is_endpoint(spec)
    if max_cost_usd is not None and price_usd_per_million is None and not free:
        raise ConfigError(
            "max_cost_usd needs price_usd_per_million: give the price of a million input and output tokens, "
            'for example `--price_usd_per_million "[2.5, 10]"`'
        )
    price = (0.0, 0.0) if free else price_usd_per_million
    remembered = (
        LedgeredModel(model, ledger, price=price, max_cost_usd=max_cost_usd)
        if batch is None
        else in_batches(spec, model, ledger, price, max_cost_usd, batch)
    )
    return remembered if extras is None else WithExtras(remembered, extras)
