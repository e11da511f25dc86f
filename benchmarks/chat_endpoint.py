"""A fake endpoint for benchmarks of the data stage: OpenAI's chat protocol, fast, in a process of its own.

    python -m benchmarks.chat_endpoint --slots 64 --shortest 0.05 --longest 5

Prints its port. A call for numbered questions gets five; any other gets sentences of the document in its prompt. Every
reply waits a time drawn evenly between the bounds, keyed by the prompt. GET /stats: calls, and the share of slots
with a call, from first to last and until two calls a slot before the last (then slots run out of work).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
import zlib

QUESTIONS = "\n".join(
    f"{number}. What does the text say about the {word} and its parts?"
    for number, word in enumerate(("history", "harbour", "machine", "council", "garden"), 1)
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
SENTENCES = re.compile(r"[A-Z][^.!?\n]{60,300}[.!?]")


def reply(content: str) -> str:
    """What a call gets."""
    if "1: " in content[-700:]:
        return QUESTIONS
    found = SENTENCES.findall(content[len(content) // 3 : len(content) // 3 + 4000])
    return " ".join(found[1:3]) or content[:200]


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


async def serve(slots: int, shortest: float, longest: float) -> None:
    """Until the process is ended."""
    watched = Slots(slots)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    data = json.dumps(watched.stats()).encode()
                else:
                    length = int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
                    body = await reader.readexactly(length)
                    watched.change(+1)
                    data = answer(body)
                    if longest:
                        await asyncio.sleep(shortest + (longest - shortest) * (zlib.crc32(body) / 2**32))
                    watched.change(-1)
                writer.write(HEAD % len(data) + data)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**26, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def answer(body: bytes) -> bytes:
    """The body of a completion."""
    asked = json.loads(body)
    text = reply(asked["messages"][-1]["content"])
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
    asked = parser.parse_args()
    asyncio.run(serve(asked.slots, asked.shortest, asked.longest))
