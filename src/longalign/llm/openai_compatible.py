"""Any endpoint that speaks OpenAI's chat protocol: OpenAI, vLLM, SGLang, llama.cpp, Ollama, `transformers serve`.

The SDK does the transport; retries are ours, so that every attempt is seen by the circuit breaker and a
`Retry-After` is honoured. The key comes from OPENAI_API_KEY and appears in no message, row or file.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from longalign.errors import ConfigError, EndpointError
from longalign.llm.base import Failure, Outcome, Reply, Request
from longalign.llm.breaker import Breaker, retry_after_s

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

SPEC = re.compile(r"openai:(?P<model>.+)@(?P<url>https?://\S+)")
THINKING = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
ATTEMPTS = 8
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
MODERATION_CODES = ("content_filter", "content_policy_violation", "moderation_blocked")


def parse_endpoint(spec: str) -> tuple[str, str]:
    """`openai:MODEL@BASE_URL` as (model, base URL); model names may hold `/`, `:` and `@`."""
    match = SPEC.fullmatch(spec)
    if not match:
        raise ConfigError(
            f"llm `{spec}`: write openai:MODEL@BASE_URL with an http(s) URL, "
            "for example openai:Qwen/Qwen3-30B-A3B-Instruct-2507@http://localhost:8000/v1"
        )
    return match["model"], match["url"].rstrip("/")


class OpenAICompatibleModel:
    """One model behind one base URL; safe to call from many threads."""

    batched = False

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        concurrency: int = 8,
        timeout_s: float = 600.0,
        attempts: int = ATTEMPTS,
        first_pause_s: float = FIRST_PAUSE_S,
        breaker: Breaker | None = None,
    ) -> None:
        import openai

        key = os.environ.get("OPENAI_API_KEY", "")
        if not key and "api.openai.com" in base_url:
            raise EndpointError(f"{base_url}: OPENAI_API_KEY is not set; export it (keys are read from nowhere else)")
        self.name = model
        self.base_url = base_url
        self.concurrency = concurrency
        self.attempts = attempts
        self.first_pause_s = first_pause_s
        self.breaker = breaker or Breaker()
        self._key = key
        self._openai = openai
        self._client = openai.OpenAI(
            api_key=key or "none",
            base_url=base_url,
            max_retries=0,
            timeout=openai.Timeout(timeout_s, connect=10.0),
        )
        self._closing = weakref.finalize(self, self._client.close)  # at the latest when the model goes out of use
        self._limit = threading.BoundedSemaphore(concurrency)
        self._cap_name = "max_tokens"
        self._send_temperature = self._send_seed = True

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`; at most `concurrency` calls are under way over all threads."""
        if len(requests) == 1:
            yield 0, self._answer(requests[0])
            return
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="longalign-llm") as pool:
            futures = {pool.submit(self._answer, request): index for index, request in enumerate(requests)}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Close the connections."""
        self._closing()

    def _answer(self, request: Request) -> Outcome:
        """One request through all its attempts."""
        pause_s = self.first_pause_s
        last, maybe_billed = "", False
        attempt = 0
        while attempt < self.attempts:
            self.breaker.wait()
            asked_s: float | None = None
            start = time.monotonic()
            sent: dict[str, Any] = {}
            try:
                with self._limit:
                    start = time.monotonic()
                    sent = self._arguments(request)
                    completion = self._client.chat.completions.create(**sent)
                self.breaker.success()
                return self._read(completion, time.monotonic() - start)
            except self._openai.APIStatusError as error:
                if self._adapt(error, sent):
                    continue
                outcome = self._refused(error, time.monotonic() - start)
                if outcome is not None:
                    return outcome
                last = f"HTTP {error.status_code}: {self._clean(error.message)}"
                asked_s = retry_after_s(error.response.headers)
            except self._openai.APITimeoutError:
                last, maybe_billed = f"no answer within {time.monotonic() - start:.0f} s", True
            except self._openai.APIConnectionError as error:
                last, maybe_billed = self._clean(str(error.__cause__ or error)), self.breaker.ever_answered
                often = attempt >= 2 or self.breaker.failures_in_a_row >= self.breaker.threshold // 2
                if not self.breaker.ever_answered and often:
                    raise self.breaker.stop(
                        f"{self.base_url} cannot be reached ({last}); start the server or correct the URL after `@`"
                    ) from None
            except (self._openai.APIResponseValidationError, ValueError) as error:
                self.breaker.success()
                return Failure(kind="malformed", message=self._clean(str(error)), maybe_billed=True, model=self.name)
            self.breaker.failure(f"{self.base_url}: {last}")
            attempt += 1
            if attempt < self.attempts:
                jitter = random.SystemRandom().uniform(0.5, 1.0)  # spreads retries in time; no result depends on it
                self.breaker.sleep(max(asked_s or 0.0, pause_s * jitter))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        message = f"{last} ({self.attempts} attempts)"
        return Failure(kind="unavailable", message=message, maybe_billed=maybe_billed, model=self.name)

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
        """Whether to send the request again otherwise: some endpoints name the cap differently, fix the temperature or
        know no seed. Judged by what was sent: another thread may have adapted in the meantime."""
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

    def _refused(self, error: Any, wall_s: float) -> Failure | None:
        """A failure that no retry can mend, or None; errors that hit every request are raised."""
        status, text = error.status_code, self._clean(str(error.message))
        if "insufficient_quota" in f"{error.code} {error.type}":
            raise self.breaker.stop(f"{self.base_url}: the account's quota is used up ({text})") from None
        if status in (401, 403):
            raise self.breaker.stop(f"{self.base_url}: HTTP {status}, not permitted; check OPENAI_API_KEY ({text})")
        if status == 404:
            raise self.breaker.stop(f"{self.base_url}: HTTP 404 for `{self.name}`; check model name and URL ({text})")
        if status in (408, 409, 425, 429) or status >= 500:
            return None
        self.breaker.success()
        lowered = f"{error.code} {text}".lower()
        if any(code in lowered for code in MODERATION_CODES):
            return Failure(kind="moderated", message=text, model=self.name, wall_s=wall_s)
        if status == 413 or "context_length" in lowered or "maximum context" in lowered or "too long" in lowered:
            return Failure(kind="too_long", message=text, model=self.name, wall_s=wall_s)
        return Failure(kind="rejected", message=f"HTTP {status}: {text}", model=self.name, wall_s=wall_s)

    def _read(self, completion: ChatCompletion, wall_s: float) -> Outcome:
        usage = getattr(completion, "usage", None)
        facts: dict[str, Any] = {
            "prompt_tokens": getattr(usage, "prompt_tokens", None),
            "completion_tokens": getattr(usage, "completion_tokens", None),
            "model": getattr(completion, "model", None) or self.name,
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

    def _clean(self, text: str) -> str:
        """One short line without the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        text = re.sub(r"\bsk-[\w*-]{6,}", "[key]", text)
        return " ".join(text.split())[:300]
