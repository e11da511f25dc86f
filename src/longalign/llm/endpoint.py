"""Shared by all HTTP endpoints: concurrency, retries, the circuit breaker, and what each error means.

The SDKs do the transport. Retries are done here, so that the breaker sees every attempt and `Retry-After` is
honoured. Both SDKs (openai, anthropic) name their errors alike. Keys appear in no message, row or file.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

from longalign.errors import EndpointError
from longalign.llm.base import Failure, Outcome, Request
from longalign.llm.breaker import Breaker, retry_after_s

ATTEMPTS = 8
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0
MODERATION_CODES = ("content_filter", "content_policy_violation", "moderation_blocked")


class Endpoint(ABC):
    """One model behind one base URL; safe to call from many threads. Subclasses speak one protocol each."""

    batched = False
    key_name: str
    """Environment variable that the key comes from; it is read from nowhere else."""
    hosted: str
    """Address at which nothing is answered without a key."""
    retry_unanswered = True
    """Whether to try again after an attempt that got no answer but may be charged; off under a cap on money."""

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        sdk: Any,
        client: Callable[..., Any],
        concurrency: int = 8,
        timeout_s: float = 600.0,
        attempts: int = ATTEMPTS,
        first_pause_s: float = FIRST_PAUSE_S,
        breaker: Breaker | None = None,
    ) -> None:
        self._key = os.environ.get(self.key_name, "")
        if not self._key and self.hosted in base_url:
            raise EndpointError(f"{base_url}: {self.key_name} is not set; export it (keys are read from nowhere else)")
        self.name = model
        self.base_url = base_url
        self.concurrency = concurrency
        self.attempts = attempts
        self.first_pause_s = first_pause_s
        self.breaker = breaker or Breaker()
        self._sdk = sdk
        timeout = sdk.Timeout(timeout_s, connect=10.0)
        self._client = client(api_key=self._key or "none", base_url=base_url, max_retries=0, timeout=timeout)
        self._closing = weakref.finalize(self, self._client.close)  # at the latest when the model goes out of use
        self._limit = threading.BoundedSemaphore(concurrency)

    @abstractmethod
    def _arguments(self, request: Request) -> dict[str, Any]:
        """The request as the protocol puts it."""

    @abstractmethod
    def _send(self, arguments: Mapping[str, Any]) -> Any:
        """One attempt; raises the SDK's errors."""

    @abstractmethod
    def _read(self, answered: Any, request: Request, wall_s: float) -> Outcome:
        """The outcome of an attempt that was answered."""

    @abstractmethod
    def _adapt(self, error: Any, sent: Mapping[str, Any]) -> bool:
        """Whether to send a refused request again in another form, as this endpoint wants it."""

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
        last, lost = "", 0
        attempt = 0
        while attempt < self.attempts:
            self.breaker.wait()
            asked_s: float | None = None
            unanswered = False
            start = time.monotonic()
            sent: dict[str, Any] = {}
            try:
                with self._limit:
                    start = time.monotonic()
                    sent = self._arguments(request)
                    answered = self._send(sent)
                self.breaker.success()
                return replace(self._read(answered, request, time.monotonic() - start), lost_attempts=lost)
            except self._sdk.APIStatusError as error:
                if self._adapt(error, sent):
                    continue
                outcome = self._refused(error, time.monotonic() - start)
                if outcome is not None:
                    return replace(outcome, lost_attempts=lost)
                last = f"HTTP {error.status_code}: {self._clean(error.message)}"
                asked_s = retry_after_s(error.response.headers)
            except self._sdk.APITimeoutError:
                last, unanswered = f"no answer within {time.monotonic() - start:.0f} s", True
            except self._sdk.APIConnectionError as error:
                last, unanswered = self._clean(str(error.__cause__ or error)), self.breaker.ever_answered
                often = attempt >= 2 or self.breaker.failures_in_a_row >= self.breaker.threshold // 2
                if not self.breaker.ever_answered and often:
                    raise self.breaker.stop(
                        f"{self.base_url} cannot be reached ({last}); start the server or correct the URL after `@`"
                    ) from None
            except (self._sdk.APIResponseValidationError, ValueError) as error:
                self.breaker.success()
                message = self._clean(str(error))
                return Failure(
                    kind="malformed", message=message, maybe_billed=True, lost_attempts=lost, model=self.name
                )
            self.breaker.failure(f"{self.base_url}: {last}")
            attempt += 1
            if unanswered and (attempt == self.attempts or not self.retry_unanswered):
                message = f"{last} ({attempt} attempts)"
                return Failure(
                    kind="unavailable", message=message, maybe_billed=True, lost_attempts=lost, model=self.name
                )
            lost += unanswered
            if attempt < self.attempts:
                jitter = random.SystemRandom().uniform(0.5, 1.0)  # spreads retries in time; no result depends on it
                self.breaker.sleep(max(asked_s or 0.0, pause_s * jitter))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        message = f"{last} ({self.attempts} attempts)"
        return Failure(kind="unavailable", message=message, lost_attempts=lost, model=self.name)

    def _refused(self, error: Any, wall_s: float) -> Failure | None:
        """A failure that no retry can mend, or None; errors that hit every request are raised."""
        status, text = error.status_code, self._clean(str(error.message))
        code = f"{getattr(error, 'code', '')} {getattr(error, 'type', '')}"
        if "insufficient_quota" in code or "credit balance is too low" in text:
            raise self.breaker.stop(f"{self.base_url}: the account's quota is used up ({text})") from None
        if status in (401, 403):
            raise self.breaker.stop(f"{self.base_url}: HTTP {status}, not permitted; check {self.key_name} ({text})")
        if status == 404:
            raise self.breaker.stop(f"{self.base_url}: HTTP 404 for `{self.name}`; check model name and URL ({text})")
        if status in (408, 409, 425, 429) or status >= 500:
            return None
        self.breaker.success()
        lowered = f"{code} {text}".lower()
        if any(code in lowered for code in MODERATION_CODES):
            return Failure(kind="moderated", message=text, model=self.name, wall_s=wall_s)
        if status == 413 or "context_length" in lowered or "maximum context" in lowered or "too long" in lowered:
            return Failure(kind="too_long", message=text, model=self.name, wall_s=wall_s)
        return Failure(kind="rejected", message=f"HTTP {status}: {text}", model=self.name, wall_s=wall_s)

    def _clean(self, text: str) -> str:
        """One short line without the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        text = re.sub(r"\bsk-[\w*-]{6,}", "[key]", text)
        return " ".join(text.split())[:300]
