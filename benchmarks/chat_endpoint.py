"""A fake endpoint for benchmarks of the data stage: OpenAI's chat protocol, fast, in a process of its own.

    python -m benchmarks.chat_endpoint --slots 64 --shortest 0.05 --longest 5

Prints its port. It knows the requests of `data build`, over documents of `tests.makers.text.prose`: questions name two
things of the document each, answers are the sentences about them, nothing is known without the document, verdicts are
good. Every reply waits a time drawn evenly between the bounds, keyed by the prompt; `--failing 0.1` answers that share
of requests with HTTP 500 instead. GET /stats: calls, and the share of slots with a call, from first to last and until
two calls a slot before the last (then slots run out of work).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
import zlib

HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
NAMED = re.compile(r"The (\w+ with number \d+) was [^.]*\.")
GOOD = "supported: yes\ncomplete: yes\ncorrect: yes\n"
SCORES = "helpfulness: 8\nlogicality: 9\nfaithfulness: 10\ncompleteness: 7"
TAIL_CHARACTERS = 1500
FOUND = 10
"""Things of a document that questions name."""


def reply(content: str) -> str:
    """What a call gets."""
    tail = content[-TAIL_CHARACTERS:]
    if "UNKNOWN" in tail:
        return "UNKNOWN"
    if "\nsupported: " in tail:
        return GOOD + SCORES
    if tail.endswith("answerable:"):
        return "answerable: no"
    if "1: " in tail:
        step = len(content) // FOUND
        found = [NAMED.search(content, place * step) for place in range(FOUND)]
        names = [match[1] for match in found if match]
        pairs = zip(names[::2], names[1::2], strict=False)
        lines = (f"What happened to the {one}, and what to the {other}?" for one, other in pairs)
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    names = re.findall(r"\w+ with number \d+", tail.partition("What happened to ")[2])
    starts = [content.find(f"The {name} was ") for name in names]
    if "does not answer this question" in tail or -1 in starts:
        return f"The document says nothing about the {names[0] if names else 'question'}."
    return " ".join(content[start : content.index(".", start) + 1] for start in starts)


class Slots:
    """How many calls are under way, over time."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.calls = self.open = self.most = 0
        self.first = self.last = 0.0
        self.slot_seconds = 0.0
        self.history: list[tuple[float, float]] = []

    def change(self, by: int) -> None:
        now = time.monotonic()
        if not self.first:
            self.first = self.last = now
        self.slot_seconds += self.open * (now - self.last)
        self.last, self.open = now, self.open + by
        self.most = max(self.most, self.open)
        if by < 0:
            self.calls += 1
            self.history.append((now, self.slot_seconds))

    def stats(self) -> dict[str, float]:
        seconds = max(self.last - self.first, 1e-9)
        full = self.history[: -2 * self.slots] or [(self.last, self.slot_seconds)]
        until, done = full[-1]
        return {
            "calls": self.calls,
            "most_at_once": self.most,
            "seconds": round(seconds, 3),
            "busy_share": round(self.slot_seconds / seconds / self.slots, 4),
            "busy_share_before_tail": round(done / max(until - self.first, 1e-9) / self.slots, 4),
        }


async def serve(slots: int, shortest: float, longest: float, failing: float) -> None:
    """Until the process is ended."""
    watched = Slots(slots)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status = b"200 OK"
                if head.startswith(b"GET"):
                    data = json.dumps(watched.stats()).encode()
                else:
                    length = int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
                    body = await reader.readexactly(length)
                    watched.change(+1)
                    data = answer(body)
                    if longest:
                        await asyncio.sleep(shortest + (longest - shortest) * (zlib.crc32(body) / 2**32))
                    if zlib.adler32(body) % 1000 < 1000 * failing:
                        status, data = b"500 Internal Server Error", b'{"error": {"message": "out of luck"}}'
                    watched.change(-1)
                writer.write(HEAD % (status, len(data)) + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**26, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def answer(body: bytes) -> bytes:
    """The body of a completion."""
    asked = json.loads(body)
    content = asked["messages"][-1]["content"]
    text = reply(content if isinstance(content, str) else "".join(part["text"] for part in content))
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": len(body) // 4, "completion_tokens": len(text) // 4, "total_tokens": 1},
        }
    ).encode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--shortest", type=float, default=0.0)
    parser.add_argument("--longest", type=float, default=0.0)
    parser.add_argument("--failing", type=float, default=0.0)
    asked = parser.parse_args()
    asyncio.run(serve(asked.slots, asked.shortest, asked.longest, asked.failing))
