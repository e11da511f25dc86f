"""From a spec (`offline`, `openai:MODEL@BASE_URL`, `anthropic:MODEL`, a directory) to a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from longalign.errors import ConfigError, ModelError
from longalign.llm.base import LanguageModel, close_model

if TYPE_CHECKING:
    from longalign.llm.ledger import Ledger


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
        from longalign.llm.offline import OfflineJudge

        return OfflineJudge()
    if spec.startswith("openai:"):
        from longalign.llm.openai import OpenAICompatibleModel, parse_endpoint

        model, base_url = parse_endpoint(spec)
        return OpenAICompatibleModel(
            model, base_url, concurrency=options["concurrency"], timeout_s=options["timeout_s"]
        )
    if spec.startswith("anthropic:"):
        from longalign.llm import anthropic as anthropic_messages

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
