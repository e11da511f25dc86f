"""Shared by all HTTP endpoints: concurrency, retries, the circuit breaker, and what is done about each error.

The SDKs do the transport. Retries are done here, so that the breaker sees every attempt and `Retry-After` is
honoured. Both SDKs (openai, anthropic) name their errors alike. Keys appear in no message, row or file.

A request's own failures (HTTP 500) cost it its attempts. Failures of the endpoint (no connection, 429, 503) cost time
only, up to the breaker's `give_up_s`, as long as they hit everybody. What an error means: `refusals`.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

from longalign.errors import EndpointError
from longalign.llm.attempts import (
    ACCOUNT_REFUSALS,
    ATTEMPTS,
    DOUBTFUL_ATTEMPTS,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    OWN_ATTEMPTS,
    UNANSWERED_ATTEMPTS,
    Course,
)
from longalign.llm.base import Failure, Outcome, Request
from longalign.llm.breaker import GO_ON, Breaker, retry_after_s
from longalign.llm.deadline import reply_within
from longalign.llm.notes import Notes
from longalign.llm.refusals import (
    NO_REPLY,
    RAISE_WINDOW,
    Refusal,
    body_of,
    error_inside,
    fields_of,
    refusal,
    without_key,
)
from longalign.llm.slots import Slots

SILENT_FAILURES = 3


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
        self.timeout_s = timeout_s
        self.breaker = breaker or Breaker(quorum=min(3, concurrency), most_in_a_row=concurrency + 12)
        self._sdk = sdk
        timeout = sdk.Timeout(timeout_s, connect=10.0)
        http = sdk.DefaultHttpxClient(timeout=timeout, event_hooks=reply_within(timeout_s, sdk))
        self._client = client(
            api_key=self._key or "none", base_url=base_url, max_retries=0, timeout=timeout, http_client=http
        )
        self._closing = weakref.finalize(self, self._client.close)  # at the latest when the model goes out of use
        self._slots = Slots(concurrency)
        self._notes = Notes(base_url)
        self._refused_payments = 0
        self._lock = threading.Lock()

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

    def has_answered(self) -> None:
        """See `base.has_answered`."""
        self.breaker.proven = True

    def close(self) -> None:
        """Close the connections."""
        self._closing()

    def _answer(self, request: Request) -> Outcome:
        """One request through all its attempts."""
        course = Course(request, self.breaker.clock(), self.first_pause_s)
        while True:
            self.breaker.wait(course.slept_until)
            outcome = self._attempt(course)
            if outcome is not None:
                return replace(outcome, lost_attempts=course.lost)

    def _attempt(self, course: Course) -> Outcome | None:
        """One attempt; None where there is to be another, after a pause."""
        start = time.monotonic()
        sent: dict[str, Any] = {}
        try:
            with self._slots.one():
                self.breaker.check()
                start = time.monotonic()
                sent = self._arguments(course.request)
                answered = self._send(sent)
            wall_s = time.monotonic() - start
            if (error_body := error_inside(fields_of(answered))) is not None:
                return self._refused(course, refusal(*error_body), None)
            return self._answered(answered, course.request, wall_s)
        except self._sdk.APIStatusError as error:
            if self._adapt(error, sent):
                self.breaker.alive()
                return None
            meant = refusal(error.status_code, body_of(error.response))
            return self._refused(course, meant, retry_after_s(error.response.headers))
        except self._sdk.APITimeoutError:
            course.unanswered += 1
            course.last = f"no whole answer within {time.monotonic() - start:.0f} s"
            self.breaker.timed_out(self.base_url, self.timeout_s)
            return self._without_answer(course)
        except self._sdk.APIConnectionError as error:
            course.last = self.clean(str(error.__cause__ or error))
            often = course.attempts >= 2 or self.breaker.failures_in_a_row >= self.breaker.threshold // 2
            if not self.breaker.ever_answered and often:
                raise self.breaker.stop(
                    f"{self.base_url} cannot be reached ({course.last}); start the server or correct the URL after `@`"
                ) from None
            return self._without_answer(course) if self.breaker.ever_answered else self._endpoint_failed(course, None)
        except (self._sdk.APIResponseValidationError, ValueError) as error:
            return self._malformed(str(getattr(error, "doc", "")) or str(error))

    def _answered(self, answered: Any, request: Request, wall_s: float) -> Outcome:
        """The outcome of an answer that is no error."""
        if isinstance(answered, str):
            return self._malformed(answered)
        outcome = self._read(answered, request, wall_s)
        if isinstance(outcome, Failure) and outcome.kind == "malformed":
            self.breaker.alive()
            outcome = replace(outcome, message=f"{outcome.message}; {NO_REPLY}")
            self.breaker.lost(f"{self.base_url}: {outcome.message}")
            return outcome
        self.breaker.success()
        self._slots.answered()
        self._refused_payments = 0
        return outcome

    def _malformed(self, text: str) -> Failure:
        """An answer that is none (a proxy's page, half an object), with its first words."""
        words = f"no reply: {self.clean(refusal(200, text).words)[:120]}; {NO_REPLY}"
        self.breaker.alive()
        self.breaker.lost(f"{self.base_url}: HTTP 200, but {words}")
        return Failure(kind="malformed", message=words, maybe_billed=True, model=self.name)

    def _refused(self, course: Course, meant: Refusal, asked_s: float | None) -> Failure | None:
        """What an error leads to: a failure, another attempt (None), or the end of the run (raised)."""
        words, status = self.clean(meant.words), meant.status
        course.last = f"HTTP {status}: {words}"
        where = f"{self.base_url}: HTTP {status}"
        if meant.meaning == "account":
            with self._lock:
                self._refused_payments += 1
                enough = meant.clear or self._refused_payments >= ACCOUNT_REFUSALS
            if enough:
                raise self.breaker.stop(f"{where}, the account's quota is used up ({words}); top it up. {GO_ON}")
            self._again(course, asked_s)
            return None
        if meant.meaning == "permission":
            raise self.breaker.stop(f"{where}, not permitted; check {self.key_name} ({words})")
        if meant.meaning == "unknown_model":
            raise self.breaker.stop(f"{where} for `{self.name}`; check model name and URL ({words})")
        if meant.meaning == "rate_limit":
            self._slots.too_many(self.breaker.clock())
            return self._endpoint_failed(course, asked_s, waits=True)
        if meant.meaning == "overloaded":
            return self._endpoint_failed(course, asked_s)
        if meant.meaning == "server":
            return self._server_failed(course, asked_s)
        self.breaker.alive()
        if meant.meaning == "too_long":
            return Failure(kind="too_long", message=f"{words}; {RAISE_WINDOW}", model=self.name)
        if meant.meaning == "moderated":
            return Failure(kind="moderated", message=words, model=self.name)
        self._notes.once(f"a request is refused ({course.last}); nothing is remembered of it")
        all_are = self.breaker.lost(f"{self.base_url}: {course.last}")
        return Failure(kind="unavailable" if all_are else "rejected", message=course.last, model=self.name)

    def _server_failed(self, course: Course, asked_s: float | None) -> Failure | None:
        """The server failed at this request (HTTP 500): its own affair, unless no request is answered any more."""
        if self.breaker.in_doubt and not self.breaker.proven:
            return self._endpoint_failed(course, asked_s)
        self.breaker.alive()
        course.attempts += 1
        if course.attempts >= min(DOUBTFUL_ATTEMPTS if self.breaker.in_doubt else OWN_ATTEMPTS, self.attempts):
            self.breaker.doubt()
            return self._given_up(course)
        self._again(course, asked_s)
        return None

    def _endpoint_failed(self, course: Course, asked_s: float | None, *, waits: bool = False) -> Failure | None:
        """The endpoint cannot answer just now. `waits`: it asks for patience, which costs a request no attempt."""
        self.breaker.failure(f"{self.base_url}: {course.last}", id(course))
        if self.breaker.answers != course.answers_seen:  # others were answered since this one failed last
            course.answers_seen = self.breaker.answers
            course.own += course.attempts > 0
        if self.breaker.open:
            self._notes.once(f"no request is answered just now ({course.last}); all pause, and try again")
        else:
            course.attempts += 1
            if not self.breaker.ever_answered and self.breaker.failures_in_a_row >= SILENT_FAILURES:
                self._notes.once(f"not answered yet ({course.last}); trying again")
        if waits:
            spent = self.breaker.clock() - course.started_s > self.breaker.give_up_s
        else:
            spent = course.attempts >= self.attempts or course.own >= OWN_ATTEMPTS
        if spent:
            return self._given_up(course)
        self._again(course, asked_s)
        return None

    def _without_answer(self, course: Course) -> Failure | None:
        """Sent, and perhaps charged, but not answered."""
        if not self.retry_unanswered or course.unanswered >= UNANSWERED_ATTEMPTS:
            course.attempts += 1
            self.breaker.failure(f"{self.base_url}: {course.last}", id(course))
            return replace(self._given_up(course), maybe_billed=True)
        failed = self._endpoint_failed(course, None)
        if failed is not None:
            return replace(failed, maybe_billed=True)
        course.lost += 1
        return None

    def _given_up(self, course: Course) -> Failure:
        message = f"{course.last} ({course.attempts} attempts)"
        return Failure(kind="unavailable", message=message, model=self.name)

    def _again(self, course: Course, asked_s: float | None) -> None:
        """Pause before the next attempt: as long as asked (then all pause), else longer each time, with jitter."""
        jitter = random.SystemRandom().uniform(0.5, 1.0)  # spreads retries in time; no result depends on it
        if asked_s:
            course.slept_until = self.breaker.hold(asked_s)
        self.breaker.sleep(max(asked_s or 0.0, course.pause_s * jitter))
        course.pause_s = min(course.pause_s * 2, LONGEST_PAUSE_S)

    def clean(self, text: str) -> str:
        """One short line without the key."""
        return without_key(text, self._key)
