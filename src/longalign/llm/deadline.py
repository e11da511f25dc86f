"""A limit of time for a whole reply, for the HTTP clients of the SDKs.

They limit each wait for bytes, so a server that sends a byte now and then is never cut off. The hooks below note when a
request is sent and look at the clock at every piece that comes. A server that falls silent at the end is cut off by the
client's own limit, so a reply takes at most twice the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

UNTIL = "longalign_until"


def reply_within(seconds: float, sdk: Any) -> dict[str, list[Callable[..., None]]]:
    """`event_hooks` for the HTTP client of an SDK, which raise its timeout where a reply takes longer."""
    client = next(base for base in sdk.DefaultHttpxClient.__mro__ if base.__module__.split(".")[0] != sdk.__name__)
    http = import_module(client.__module__.split(".")[0])  # httpx, or what the SDK has in its place

    class InTime(http.SyncByteStream):  # type: ignore[misc, name-defined]
        """A reply's bytes, as long as there is time."""

        def __init__(self, inner: Any, request: Any) -> None:
            self._inner, self._request = inner, request

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._inner:
                if time.monotonic() > self._request.extensions[UNTIL]:
                    raise http.ReadTimeout("the time for the whole reply is over", request=self._request)
                yield piece

        def close(self) -> None:
            self._inner.close()

    def sent(request: Any) -> None:
        request.extensions[UNTIL] = time.monotonic() + seconds

    def came(response: Any) -> None:
        response.stream = InTime(response.stream, response.request)

    return {"request": [sent], "response": [came]}
