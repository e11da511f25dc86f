"""Circuit breaker: when an endpoint fails for everybody, all callers pause together instead of hammering it.

Health is judged by distinct requests. `threshold` failures in a row, of at least `quorum` requests, open the circuit
for `pause_s`; then one call probes, and each failed probe doubles the pause. After `give_up_s` without an answer the
run ends with an error: what is paid is in the ledger, and the same command carries on later. A request that fails on
its own (HTTP 500, say) opens nothing, unless many fail so, none answered between (`in_doubt`). When `most_in_a_row`
requests are refused or answered with nonsense, the run ends with the server's words instead of spoiling the rest.
"""

from __future__ import annotations

import email.utils
import threading
import time
from collections.abc import Callable, Mapping

from longalign.errors import EndpointError

LONGEST_RETRY_AFTER_S = 600.0
GO_ON = "Replies so far are kept: run the same command again"


class Breaker:
    """Shared by all threads that call one endpoint."""

    def __init__(
        self,
        *,
        threshold: int = 12,
        quorum: int = 3,
        most_in_a_row: int = 20,
        pause_s: float = 5.0,
        longest_pause_s: float = 120.0,
        give_up_s: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self.threshold = threshold
        self.quorum = quorum
        self.most_in_a_row = most_in_a_row
        self.first_pause_s = pause_s
        self.longest_pause_s = longest_pause_s
        self.give_up_s = give_up_s
        self.ever_answered = False
        self.proven = False
        """The endpoint has answered such requests, so that failures of single ones no longer end the run."""
        self.clock = clock
        self._sleep = sleep
        self._stopped = threading.Event()
        self._reason, self._maybe_billed = "", False
        self._lock = threading.Lock()
        self._failures = 0
        self._failing: set[object] = set()
        self._failing_since: float | None = None
        self._pause_s = pause_s
        self._open_until = 0.0
        self._probing = False
        self._held_until = 0.0
        self._lost_in_a_row = 0
        self._doubts = self._timeouts = 0
        self.answers = 0

    @property
    def in_doubt(self) -> bool:
        """Whether so many requests failed on their own, none answered between, that it is the endpoint after all."""
        return self._doubts >= self.most_in_a_row - 8

    @property
    def failures_in_a_row(self) -> int:
        """Failed attempts of all threads since the endpoint last answered."""
        return self._failures

    @property
    def open(self) -> bool:
        """Whether the endpoint fails for everybody, so that a failure says nothing about the request."""
        return self._failures >= self.threshold and len(self._failing) >= self.quorum

    def wait(self, slept_until: float = 0.0) -> None:
        """Returns when a call may be made: at once while closed, for one caller at a time while open.

        `slept_until`: a pause for all (`hold`) that the caller has slept through already.
        """
        while True:
            with self._lock:
                self.check()
                now = self.clock()
                left_s = self._held_until - now if self._held_until > slept_until else 0.0
                if left_s <= 0:
                    if not self.open:
                        return
                    left_s = self._open_until - now
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
        self.check()

    def check(self) -> None:
        """Raises where the endpoint has been given up."""
        if self._stopped.is_set():
            raise EndpointError(self._reason, maybe_billed=self._maybe_billed)

    def hold(self, seconds: float) -> float:
        """Let nobody call for so long, as the endpoint asked (`Retry-After`); returns until when."""
        with self._lock:
            until = self.clock() + seconds
            self._held_until = max(self._held_until, until)
            return until

    def stop(self, reason: str, *, maybe_billed: bool = False) -> EndpointError:
        """Give the endpoint up for all threads; returns the error to raise."""
        with self._lock:
            self._reason = self._reason or reason
            self._maybe_billed = self._maybe_billed or maybe_billed
            self._stopped.set()
        return EndpointError(self._reason, maybe_billed=self._maybe_billed)

    def alive(self) -> None:
        """The endpoint is there, whatever it says; the circuit closes."""
        with self._lock:
            self.ever_answered = True
            self._failures = 0
            self._failing.clear()
            self._failing_since = None
            self._pause_s = self.first_pause_s
            self._probing = False

    def success(self) -> None:
        """The endpoint did its work for one request."""
        self.alive()
        with self._lock:
            self._lost_in_a_row = self._doubts = 0
            self.answers += 1

    def doubt(self) -> None:
        """A request used up its attempts on failures of its own."""
        with self._lock:
            self._doubts += 1

    def lost(self, reason: str) -> bool:
        """A request was refused, or answered with nonsense. True where so many were in a row that it says nothing of
        the request itself; raises then, unless the endpoint is `proven`."""
        with self._lock:
            self._lost_in_a_row += 1
            in_a_row = self._lost_in_a_row
        if in_a_row >= self.most_in_a_row and not self.proven:
            raise self.stop(f"{reason}; so it went for {in_a_row} requests in a row, with no answer between. {GO_ON}")
        return in_a_row >= self.most_in_a_row

    def timed_out(self, url: str, timeout_s: float) -> None:
        """A call got no whole reply in time; raises where no call ever did: every further one may be charged, too."""
        with self._lock:
            self._timeouts += 1
            calls = self._timeouts
        if not self.ever_answered and calls >= self.threshold:
            raise self.stop(
                f"{url}: no whole reply within {timeout_s:g} s, for all of {calls} calls, and each may be charged; "
                f"raise --timeout_s or lower --concurrency. {GO_ON}",
                maybe_billed=True,
            )

    def failure(self, reason: str, request: object = None) -> None:
        """One attempt failed for a reason that is not the request's; raises when the endpoint is given up."""
        with self._lock:
            now = self.clock()
            self._failures += 1
            self._failing.add(request if request is not None else self._failures)
            self._failing_since = self._failing_since if self._failing_since is not None else now
            self._probing = False
            if not self.open:
                return
            self._open_until = now + self._pause_s
            self._pause_s = min(self._pause_s * 2, self.longest_pause_s)
            failing_s = now - self._failing_since
        if failing_s > self.give_up_s:
            raise self.stop(
                f"{reason}; failing for {failing_s:.0f} s. {GO_ON} when the endpoint is back", maybe_billed=True
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
