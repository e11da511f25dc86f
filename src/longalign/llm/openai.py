"""Any endpoint that speaks OpenAI's chat protocol: OpenAI, vLLM, SGLang, llama.cpp, Ollama, `transformers serve`.

The key comes from OPENAI_API_KEY only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from longalign.errors import ConfigError
from longalign.llm.base import Failure, Outcome, Reply, Request
from longalign.llm.endpoint import Endpoint

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion


SPEC = re.compile(r"openai:(?P<model>.+)@(?P<url>https?://\S+)")
THINKING = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)


def parse_endpoint(spec: str) -> tuple[str, str]:
    """`openai:MODEL@BASE_URL` as (model, base URL); model names may hold `/`, `:` and `@`."""
    match = SPEC.fullmatch(spec)
    if not match:
        raise ConfigError(
            f"llm `{spec}`: write openai:MODEL@BASE_URL with an http(s) URL, "
            "for example openai:Qwen/Qwen3-30B-A3B-Instruct-2507@http://localhost:8000/v1"
        )
    return match["model"], match["url"].rstrip("/")


class OpenAICompatibleModel(Endpoint):
    """See `Endpoint`."""

    key_name = "OPENAI_API_KEY"
    hosted = "api.openai.com"

    def __init__(self, model: str, base_url: str, **options: Any) -> None:
        """`options` are those of `Endpoint`."""
        import openai

        super().__init__(model, base_url, sdk=openai, client=openai.OpenAI, **options)
        self._cap_name = "max_tokens"
        self._send_temperature = self._send_seed = True

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.name,
            "messages": list(request.messages),
            self._cap_name: request.max_new_tokens,
        }
        if self._send_temperature:
            arguments["temperature"] = request.temperature
        if request.seed is not None and self._send_seed:
            arguments["seed"] = request.seed
        if request.stop:
            arguments["stop"] = list(request.stop)
        return arguments

    def _adapt(self, error: Any, sent: Mapping[str, Any]) -> bool:
        """Some endpoints name the cap differently, fix the temperature or know no seed.

        Judged by what was sent: another thread may have adapted in the meantime.
        """
        text = str(error.message)
        if error.status_code not in (400, 422):
            return False
        if "max_tokens" in sent and "max_completion_tokens" in text:
            self._cap_name = "max_completion_tokens"
        elif "temperature" in sent and "temperature" in text and "upport" in text:
            self._send_temperature = False
        elif "seed" in sent and re.search(r"\bseed\b", text):
            self._send_seed = False
        else:
            return False
        return True

    def _send(self, arguments: Mapping[str, Any]) -> ChatCompletion:
        completion: ChatCompletion = self._client.chat.completions.create(**arguments)
        return completion

    def _read(self, completion: ChatCompletion, wall_s: float) -> Outcome:
        usage = getattr(completion, "usage", None)
        facts: dict[str, Any] = {
            "prompt_tokens": getattr(usage, "prompt_tokens", None),
            "completion_tokens": getattr(usage, "completion_tokens", None),
            "model": getattr(completion, "model", None) or self.name,
            "own_temperature": not self._send_temperature,
            "wall_s": wall_s,
        }
        choices = getattr(completion, "choices", None)
        if not choices or getattr(choices[0], "message", None) is None:
            message = "the reply holds no choices[0].message"
            return Failure(kind="malformed", message=message, maybe_billed=True, **facts)
        choice = choices[0]
        # Half a surrogate pair (a character cut by a token limit) cannot be written as UTF-8.
        text = THINKING.sub("", choice.message.content or "").encode("utf-8", "replace").decode()
        refusal = getattr(choice.message, "refusal", None)
        stopped = {"text": text, "maybe_billed": True, **facts}
        if choice.finish_reason == "length":
            return Failure(kind="truncated", message="the reply reached max_new_tokens", **stopped)
        if choice.finish_reason == "content_filter" or refusal:
            return Failure(kind="moderated", message=refusal or "stopped by the content filter", **stopped)
        return Reply(text=text, finish_reason=choice.finish_reason or "stop", **facts)
