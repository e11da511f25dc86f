"""A limit of time for a whole reply.

HTTP libraries limit each wait for bytes, so a server that sends a byte now and then is never cut off. Here every wait
of one attempt is shortened to what is left of its time. An attempt reads in its own thread, so the limit is kept by
thread and needs no other one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_limit = threading.local()


@contextmanager
def reply_within(seconds: float) -> Iterator[None]:
    """Calls in this block, through clients with `limit_replies`, raise the client's timeout after `seconds` in all."""
    _limit.until = time.monotonic() + seconds
    try:
        yield
    finally:
        _limit.until = None


def limit_replies(client: Any) -> None:
    """Make an `httpx.Client` keep to `reply_within`."""
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None and hasattr(pool, "_network_backend"):
            pool._network_backend = _Backend(pool._network_backend)


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    until: float | None = getattr(_limit, "until", None)
    if until is None:
        return timeout
    left = until - time.monotonic()
    if left <= 0:
        raise late("the time for the whole reply is over")
    return left if timeout is None else min(timeout, left)


class _Stream:
    """A connection whose waits keep to the limit."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        from httpcore import ReadTimeout

        return self._inner.read(max_bytes, timeout=_left(timeout, ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> Any:
        from httpcore import WriteTimeout

        return self._inner.write(buffer, timeout=_left(timeout, WriteTimeout))

    def start_tls(self, *arguments: Any, **named: Any) -> _Stream:
        return _Stream(self._inner.start_tls(*arguments, **named))


class _Backend:
    """Opens such connections."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found: Callable[..., Any] = getattr(self._inner, name)
        if not name.startswith("connect_"):
            return found
        return lambda *arguments, **named: _Stream(found(*arguments, **named))
