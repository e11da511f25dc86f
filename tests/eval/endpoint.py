"""A real HTTP endpoint that speaks OpenAI's chat protocol, with answers by a function."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Endpoint:
    """`answer(body)` gives the text, or an HTTP status to fail with."""

    answer: Callable[[dict[str, Any]], str | int]
    seen: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""

    @property
    def spec(self) -> str:
        return f"openai:stand-in@{self.url}"

    def prompts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.seen]


@contextmanager
def serve(answer: Callable[[dict[str, Any]], str | int], complaint: str = "") -> Iterator[Endpoint]:
    """`complaint` is the message of a reply that fails."""
    endpoint = Endpoint(answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                endpoint.seen.append(body)
            said = endpoint.answer(body)
            if isinstance(said, int):
                self.reply(said, {"error": {"message": complaint or f"status {said}", "code": None, "type": None}})
                return
            prompt = sum(len(message["content"].split()) for message in body["messages"])
            self.reply(
                200,
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [
                        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
                    ],
                    "usage": {
                        "prompt_tokens": prompt,
                        "completion_tokens": len(said.split()),
                        "total_tokens": prompt + len(said.split()),
                    },
                },
            )

        def reply(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
