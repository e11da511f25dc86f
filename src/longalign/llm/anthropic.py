"""Claude through Anthropic's own protocol (extra `anthropic`), which reads a document once and then from its cache.

The paper's data were written by such a model. A document that several requests share is marked for the prompt cache:
reading it again costs a tenth, writing it a quarter more, and both are metered. The key comes from ANTHROPIC_API_KEY.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from longalign.errors import ConfigError
from longalign.llm.base import Failure, Outcome, Reply, Request
from longalign.llm.endpoint import Endpoint

BASE_URL = "https://api.anthropic.com"
CACHE_WRITE, CACHE_READ = 1.25, 0.1
"""Price of a cached prompt token as a share of the plain price, for the cache that lives five minutes."""
MIN_CACHED_CHARACTERS = 8192
"""Shorter documents may lie below the least that the endpoint caches (1,024 to 4,096 tokens)."""


class AnthropicModel(Endpoint):
    """See `Endpoint`."""

    key_name = "ANTHROPIC_API_KEY"
    hosted = BASE_URL
    worst_prompt_price = CACHE_WRITE

    def __init__(self, model: str, base_url: str = BASE_URL, **options: Any) -> None:
        """`options` are those of `Endpoint`."""
        try:
            import anthropic
        except ImportError:
            raise ConfigError("`anthropic:` models need the SDK: pip install 'longalign[anthropic]'") from None
        super().__init__(model, base_url, sdk=anthropic, client=anthropic.Anthropic, **options)
        self._send_temperature = True

    def _arguments(self, request: Request) -> dict[str, Any]:
        system = [message["content"] for message in request.messages if message["role"] == "system"]
        talk = [dict[str, Any](message) for message in request.messages if message["role"] != "system"]
        shared = request.shared_prefix_characters
        if shared >= MIN_CACHED_CHARACTERS:
            talk[0]["content"] = _split(str(talk[0]["content"]), shared)
        arguments: dict[str, Any] = {"model": self.name, "messages": talk, "max_tokens": request.max_new_tokens}
        if system:
            arguments["system"] = "\n\n".join(system)
        if request.stop:
            arguments["stop_sequences"] = list(request.stop)
        if self._send_temperature:
            arguments["extra_body"] = {"temperature": request.temperature}
        return arguments

    def _send(self, arguments: Mapping[str, Any]) -> Any:
        return self._client.messages.create(**arguments)

    def _adapt(self, error: Any, sent: Mapping[str, Any]) -> bool:
        """Newer models fix their temperature."""
        refused = re.search(
            r"temperature.*(support|deprecated|not permitted|not allowed)", str(error.message), re.DOTALL
        )
        if error.status_code != 400 or "extra_body" not in sent or not refused:
            return False
        self._send_temperature = False
        return True

    def _read(self, answered: Any, wall_s: float) -> Outcome:
        usage, blocks = getattr(answered, "usage", None), getattr(answered, "content", None)
        facts: dict[str, Any] = {
            "model": getattr(answered, "model", None) or self.name,
            "own_temperature": not self._send_temperature,
            "wall_s": wall_s,
        }
        if usage is not None:
            written = getattr(usage, "cache_creation_input_tokens", None) or 0
            read = getattr(usage, "cache_read_input_tokens", None) or 0
            facts |= {
                "prompt_tokens": usage.input_tokens + written + read,
                "priced_prompt_tokens": usage.input_tokens + CACHE_WRITE * written + CACHE_READ * read,
                "completion_tokens": usage.output_tokens,
            }
        if not isinstance(blocks, list):
            return Failure(kind="malformed", message="the reply holds no content", maybe_billed=True, **facts)
        text = "".join(block.text for block in blocks if block.type == "text").encode("utf-8", "replace").decode()
        stopped = {"text": text, "maybe_billed": True, **facts}
        reason = answered.stop_reason
        if reason == "max_tokens":
            return Failure(kind="truncated", message="the reply reached max_new_tokens", **stopped)
        if reason == "model_context_window_exceeded":
            return Failure(kind="too_long", message="the reply filled the model's window", **stopped)
        if reason == "refusal":
            return Failure(kind="moderated", message="the model refused to answer", **stopped)
        return Reply(text=text, finish_reason="stop", **facts)


def parse_endpoint(spec: str) -> tuple[str, str]:
    """`anthropic:MODEL` or `anthropic:MODEL@BASE_URL` as (model, base URL)."""
    model, at, url = spec.removeprefix("anthropic:").partition("@")
    if not model or (at and not url.startswith(("http://", "https://"))):
        raise ConfigError(f"llm `{spec}`: write anthropic:MODEL, or anthropic:MODEL@BASE_URL with an http(s) URL")
    return model, url.rstrip("/") or BASE_URL


def _split(content: str, shared: int) -> list[dict[str, Any]]:
    """The shared beginning as a block of its own that ends at a cache mark, and the rest."""
    kept = {"type": "text", "text": content[:shared], "cache_control": {"type": "ephemeral"}}
    return [kept, {"type": "text", "text": content[shared:]}] if content[shared:].strip() else [kept]
