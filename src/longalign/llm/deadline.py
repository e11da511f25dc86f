"""A limit of time for a whole reply, for the HTTP clients of the SDKs.

They limit each wait for bytes, so a server that sends a byte now and then is never cut off. The hooks below note when a
request is sent and look at the clock at every piece that comes. A server that falls silent at the end is cut off by the
client's own limit, so a reply takes at most twice the limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

UNTIL = "longalign_until"


def reply_within(seconds: float) -> dict[str, list[Callable[..., None]]]:
    """`event_hooks` for an `httpx.Client` that raise its timeout where a reply takes longer."""
    import httpx

    class InTime(httpx.SyncByteStream):
        """A reply's bytes, as long as there is time."""

        def __init__(self, inner: Any, request: httpx.Request) -> None:
            self._inner, self._request = inner, request

        def __iter__(self) -> Iterator[bytes]:
            for piece in self._inner:
                if time.monotonic() > self._request.extensions[UNTIL]:
                    raise httpx.ReadTimeout("the time for the whole reply is over", request=self._request)
                yield piece

        def close(self) -> None:
            self._inner.close()

    def sent(request: httpx.Request) -> None:
        request.extensions[UNTIL] = time.monotonic() + seconds

    def came(response: httpx.Response) -> None:
        response.stream = InTime(response.stream, response.request)

    return {"request": [sent], "response": [came]}
