"""Circuit breaker: when an endpoint fails for everybody, all callers pause together instead of hammering it.

After `threshold` failures in a row over all threads the circuit opens for `pause_s`, then one call probes;
each failed probe doubles the pause. After `give_up_s` without an answer the run ends with an error: what is
paid is in the ledger, and the same command carries on later.
"""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable, Mapping

from longalign.errors import EndpointError

LONGEST_RETRY_AFTER_S = 600.0


class Breaker:
    """Shared by all threads that call one endpoint."""

    def __init__(
        self,
        *,
        threshold: int = 12,
        pause_s: float = 5.0,
        longest_pause_s: float = 120.0,
        give_up_s: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.threshold = threshold
        self.first_pause_s = pause_s
        self.longest_pause_s = longest_pause_s
        self.give_up_s = give_up_s
        self.ever_answered = False
        self._clock = clock
        self._sleep = sleep
        self._stopped = threading.Event()
        self._reason, self._maybe_billed = "", False
        self._lock = threading.Lock()
        self._failures = 0
        self._failing_since: float | None = None
        self._pause_s = pause_s
        self._open_until = 0.0
        self._probing = False

    @property
    def failures_in_a_row(self) -> int:
        """Failed attempts of all threads since the endpoint last answered."""
        return self._failures

    def wait(self) -> None:
        """Returns when a call may be made: at once while closed, for one caller at a time while open."""
        while True:
            with self._lock:
                if self._stopped.is_set():
                    raise EndpointError(self._reason, maybe_billed=self._maybe_billed)
                if self._failures < self.threshold:
                    return
                left_s = self._open_until - self._clock()
                if left_s <= 0 and not self._probing:
                    self._probing = True
                    return
            self.sleep(min(max(left_s, 0.05), 1.0))

    def sleep(self, seconds: float) -> None:
        """Pause this thread; raises as soon as the endpoint has been given up by another."""
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            self._stopped.wait(seconds)
        if self._stopped.is_set():
            raise EndpointError(self._reason, maybe_billed=self._maybe_billed)

    def stop(self, reason: str, *, maybe_billed: bool = False) -> EndpointError:
        """Give the endpoint up for all threads; returns the error to raise."""
        with self._lock:
            self._reason = self._reason or reason
            self._maybe_billed = self._maybe_billed or maybe_billed
            self._stopped.set()
        return EndpointError(self._reason, maybe_billed=self._maybe_billed)

    def success(self) -> None:
        """The endpoint answered; the circuit closes."""
        with self._lock:
            self.ever_answered = True
            self._failures = 0
            self._failing_since = None
            self._pause_s = self.first_pause_s
            self._probing = False

    def failure(self, reason: str) -> None:
        """One attempt failed for a reason that is not the request's; raises when the endpoint is given up."""
        with self._lock:
            now = self._clock()
            self._failures += 1
            self._failing_since = self._failing_since if self._failing_since is not None else now
            if self._failures < self.threshold:
                return
            self._open_until = now + self._pause_s
            self._pause_s = min(self._pause_s * 2, self.longest_pause_s)
            self._probing = False
            failing_s = now - self._failing_since
        if failing_s > self.give_up_s:
            raise self.stop(
                f"{reason}; failing for {failing_s:.0f} s. Replies so far are kept: "
                "run the same command again when the endpoint is back",
                maybe_billed=True,
            )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` (or the millisecond variant) asks for; None when absent or unreadable."""
    try:
        if value := headers.get("retry-after-ms"):
            wait_s = float(value) / 1000
        elif value := headers.get("retry-after"):
            try:
                wait_s = float(value)
            except ValueError:
                wait_s = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        else:
            return None
    except (ValueError, TypeError):
        return None
    return min(max(wait_s, 0.0), LONGEST_RETRY_AFTER_S)
