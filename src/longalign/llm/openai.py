"""Any endpoint that speaks OpenAI's chat protocol: OpenAI, vLLM, SGLang, llama.cpp, Ollama, `transformers serve`.

The key comes from OPENAI_API_KEY only. The SDK carries a request and names its errors; the reply is read as plain JSON,
since making the SDK's objects of it takes longer than the rest of the call.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from longalign.base.progress import say
from longalign.errors import ConfigError
from longalign.llm.base import Call, Failure, Outcome, Request
from longalign.llm.batch_lines import Line
from longalign.llm.batches import BatchAPI
from longalign.llm.endpoint import Endpoint
from longalign.llm.refused_parameters import is_refused, wants_positive, words_of
from longalign.llm.reply import Given, Habits, read_reply, reported_tokens

SPEC = re.compile(r"openai:(?P<model>.+)@(?P<url>https?://\S+)")
REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
"""Fields in which servers hand over thoughts: vLLM, SGLang, llama.cpp, DeepSeek; vLLM, Ollama; OpenRouter; Ollama."""
LEAST_TEMPERATURE = 0.01
"""For endpoints that refuse 0. It is as good as greedy, and dividing by it overflows in no precision."""


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

    def __init__(self, model: str, base_url: str, *, habits: Habits | None = None, **options: Any) -> None:
        """`options` are those of `Endpoint`."""
        import openai

        super().__init__(model, base_url, sdk=openai, client=openai.OpenAI, **options)
        self._habits = habits or Habits()
        self._cap_name = "max_tokens"
        self._send_temperature = self._send_seed = True
        self._least_temperature = 0.0
        self._adapting = threading.Lock()

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.name,
            "messages": list(request.messages),
            self._cap_name: request.max_new_tokens,
        }
        if self._send_temperature:
            arguments["temperature"] = max(request.temperature, self._least_temperature)
        if request.seed is not None and self._send_seed:
            arguments["seed"] = request.seed
        if request.stop:
            arguments["stop"] = list(request.stop)
        if request.top_p is not None:
            arguments["top_p"] = request.top_p
        if request.reasoning_effort is not None:
            arguments["reasoning_effort"] = request.reasoning_effort
        extra = dict(request.extra_body)
        if request.chat_template_kwargs:
            extra["chat_template_kwargs"] = {
                **request.chat_template_kwargs,
                **extra.get("chat_template_kwargs", {}),
            }
        if extra:
            arguments["extra_body"] = extra
        return arguments

    def _adapt(self, error: Any, sent: Mapping[str, Any]) -> bool:
        """Some endpoints name the cap differently, fix the temperature or know no seed. Said once.

        Judged by what was sent: another thread may have adapted in the meantime. What a person set by name (`top_p`,
        `reasoning_effort`, `extra_body`) is never left out: the refusal is the answer.
        """
        if error.status_code not in (400, 422):
            return False
        text = words_of(error)
        if "max_tokens" in sent and "max_completion_tokens" in text and "too large" not in text:
            self._cap_name = "max_completion_tokens"
        elif sent.get("temperature") == 0 and wants_positive("temperature", text):
            self._set("_least_temperature", LEAST_TEMPERATURE, f"takes no temperature of 0, so {LEAST_TEMPERATURE}")
        elif "temperature" in sent and is_refused("temperature", text):
            self._set("_send_temperature", False, "takes no temperature but its own, so none")
        elif "seed" in sent and is_refused("seed", text):
            self._set("_send_seed", False, "takes no seed, so none")
        else:
            return False
        return True

    def _set(self, name: str, value: float, what: str) -> None:
        with self._adapting:
            if getattr(self, name) != value:
                setattr(self, name, value)
                say(f"note: {self.name} at {self.base_url} {what} is sent")

    def _send(self, arguments: Mapping[str, Any]) -> object:
        return self._client.post("/chat/completions", body=_body(arguments), cast_to=object)

    def batch_api(self, sleep: Callable[[float], None]) -> BatchAPI:
        """The same server's batch API."""
        return BatchAPI(self._client, self._sdk, self.base_url, key_name=self.key_name, clean=self.clean, sleep=sleep)

    def batch_body(self, request: Request) -> dict[str, Any]:
        """The body of a plain call, as a line of a batch holds it."""
        return _body(self._arguments(request))

    def read_body(self, body: Mapping[str, Any], request: Request) -> Outcome:
        """The outcome of a line of a batch that was answered."""
        return self._read(body, request, 0.0)

    def adapts(self, line: Line, request: Request) -> bool:
        """Whether a refused line says how this endpoint wants requests; later ones have that form.

        Its form is not known any more, as other lines may have changed it since: judged as if all had been sent.
        """
        inner = line.body.get("error", line.body) if isinstance(line.body, Mapping) else {}
        body = inner if isinstance(inner, dict) else {}
        refused = SimpleNamespace(status_code=line.status, body=body, message=str(body.get("message") or line.body))
        sent = {"max_tokens": request.max_new_tokens, "temperature": request.temperature, "seed": request.seed}
        return self._adapt(refused, sent)

    def _read(self, answered: object, request: Request, wall_s: float) -> Outcome:
        usage = _field(answered, "usage")
        prompt_tokens, completion_tokens = reported_tokens(
            _field(usage, "prompt_tokens"), _field(usage, "completion_tokens")
        )
        cached = _field(_field(usage, "prompt_tokens_details"), "cached_tokens") or 0
        if prompt_tokens is not None and cached > prompt_tokens:  # some count what was not in their cache only
            prompt_tokens += cached
        call = Call(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            model=_field(answered, "model") or self.name,
            own_temperature=not self._send_temperature,
            wall_s=wall_s,
        )
        choices = _field(answered, "choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = _field(choice, "message")
        if message is None:
            return Failure(
                kind="malformed", message="the reply holds no choices[0].message", maybe_billed=True, **vars(call)
            )
        given = Given(
            content=_field(message, "content"),
            finish_reason=_field(choice, "finish_reason"),
            reasoning=next((thought for name in REASONING if (thought := _field(message, name))), None),
            refusal=_field(message, "refusal"),
            called=bool(_field(message, "tool_calls") or _field(message, "function_call")),
        )
        return read_reply(given, request, call, self._habits)


def _body(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a call: its own fields, and those of `extra_body` beside them."""
    own = {name: value for name, value in arguments.items() if name != "extra_body"}
    return {**own, **arguments.get("extra_body", {})}


def _field(value: object, name: str) -> Any:
    """A field of a JSON object; None of what has none."""
    return value.get(name) if isinstance(value, Mapping) else None
