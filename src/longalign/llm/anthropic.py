"""Claude through Anthropic's own protocol (extra `anthropic`), which reads a document once and then from its cache.

The paper's data were written by such a model. A document that several requests share is marked for the prompt cache:
reading it again costs a tenth, writing it a quarter more, and both are metered. The key comes from ANTHROPIC_API_KEY.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from longalign.base.progress import say
from longalign.errors import ConfigError
from longalign.llm.base import Call, Failure, Outcome, Request
from longalign.llm.endpoint import Endpoint
from longalign.llm.refused_parameters import is_refused, words_of
from longalign.llm.reply import Given, Habits, read_reply, reported_tokens

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

    def __init__(self, model: str, base_url: str = BASE_URL, *, habits: Habits | None = None, **options: Any) -> None:
        """`options` are those of `Endpoint`."""
        try:
            import anthropic
        except ImportError:
            raise ConfigError("`anthropic:` models need the SDK: pip install 'longalign[anthropic]'") from None
        super().__init__(model, base_url, sdk=anthropic, client=anthropic.Anthropic, **options)
        self._habits = habits or Habits()
        self._adapting = threading.Lock()
        self._send_temperature = True

    def check_extras(self, request: Request) -> None:
        """Raise `ConfigError` for extras that this protocol has no place for."""
        if request.chat_template_kwargs or request.reasoning_effort:
            name = "chat_template_kwargs" if request.chat_template_kwargs else "reasoning_effort"
            raise ConfigError(
                f"{name}: Anthropic's protocol has no such field; its models think with "
                """--extra_body '{"thinking": {"type": "enabled", "budget_tokens": 2048}}'"""
            )

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
        sampling: dict[str, Any] = {} if request.top_p is None else {"top_p": request.top_p}
        if self._send_temperature:
            sampling["temperature"] = request.temperature
        if extra := {**sampling, **request.extra_body}:
            arguments["extra_body"] = extra  # the SDK no longer knows parameters of sampling
        return arguments

    def _send(self, arguments: Mapping[str, Any]) -> Any:
        return self._client.messages.create(**arguments)

    def _adapt(self, error: Any, sent: Mapping[str, Any]) -> bool:
        """Newer models fix their temperature."""
        sampled = "temperature" in sent.get("extra_body", {})
        if error.status_code != 400 or not sampled or not is_refused("temperature", words_of(error)):
            return False
        with self._adapting:
            if self._send_temperature:
                self._send_temperature = False
                say(f"note: {self.name} takes no temperature but its own, so none is sent")
        return True

    def _read(self, answered: Any, request: Request, wall_s: float) -> Outcome:
        usage, blocks = getattr(answered, "usage", None), getattr(answered, "content", None)
        call = Call(
            model=getattr(answered, "model", None) or self.name,
            own_temperature=not self._send_temperature,
            wall_s=wall_s,
        )
        if usage is not None:
            written = getattr(usage, "cache_creation_input_tokens", None) or 0
            read = getattr(usage, "cache_read_input_tokens", None) or 0
            new = getattr(usage, "input_tokens", None) or 0
            prompt_tokens, completion_tokens = reported_tokens(
                new + written + read, getattr(usage, "output_tokens", None)
            )
            call = replace(
                call,
                prompt_tokens=prompt_tokens,
                priced_prompt_tokens=prompt_tokens and new + CACHE_WRITE * written + CACHE_READ * read,
                completion_tokens=completion_tokens,
            )
        if not isinstance(blocks, list):
            return Failure(kind="malformed", message="the reply holds no content", maybe_billed=True, **vars(call))
        given = Given(
            content=blocks,
            finish_reason=getattr(answered, "stop_reason", None),
            called=any(getattr(block, "type", "") == "tool_use" for block in blocks),
        )
        return read_reply(given, request, call, self._habits)


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
