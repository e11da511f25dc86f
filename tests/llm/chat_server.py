"""A real HTTP server that speaks OpenAI's chat protocol, with faults on demand."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from longalign.base.files import fingerprint
from longalign.llm.base import Request
from longalign.llm.offline import answer

Body = dict[str, Any]


@dataclass
class Answer:
    """What the server sends back: a completion, or an error status."""

    text: str = "ok"
    finish_reason: str | None = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: Body | None = None
    usage: bool = True
    refusal: str | None = None
    raw: bytes | None = None
    delay_s: float = 0.0
    message: Body = field(default_factory=dict)
    """Fields of the message, in the place of the usual ones."""
    counts: tuple[int, int] | None = None
    """Prompt and completion tokens that it reports."""


Behaviour = Callable[[Body, int], Answer]
"""(request body, how often exactly this body has come, from 1) -> answer."""


def stand_in(body: Body, times: int) -> Answer:
    """Answers as the offline stand-in does, behind HTTP."""
    return Answer(answer(Request(messages=tuple(body["messages"]), seed=body.get("seed"))))


class ChatServer:
    """`with ChatServer(behaviour) as server: ... server.spec`. Keeps what was asked and how many calls ran at once."""

    model = "test-model"

    def __init__(self, behaviour: Behaviour = stand_in) -> None:
        self.behaviour = behaviour
        self.bodies: list[Body] = []
        self.authorizations: set[str] = set()
        self.times: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.running = self.most_running = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                outer.route(self)

            def do_GET(self) -> None:
                outer.route(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    @property
    def spec(self) -> str:
        return f"openai:{self.model}@{self.url}"

    def payload(self, body: Body, reply: Answer) -> Body:
        return payload(body, reply)

    def route(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if request.path.endswith(("/chat/completions", "/messages")):
            self.handle(request, json.loads(body))
        else:
            send(request, 404, b'{"detail": "Not Found"}')

    def handle(self, request: BaseHTTPRequestHandler, body: Body) -> None:
        key = fingerprint(body)
        with self.lock:
            self.authorizations.add(request.headers.get("Authorization", ""))
            self.bodies.append(body)
            self.times[key] += 1
            times = self.times[key]
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        reply = self.behaviour(body, times)
        time.sleep(reply.delay_s)
        with self.lock:
            self.running -= 1
            self.served[key] += reply.status == 200
        data = reply.raw if reply.raw is not None else json.dumps(self.payload(body, reply)).encode()
        send(request, reply.status, data, reply.headers)


def send(request: BaseHTTPRequestHandler, status: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
    try:
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the client was killed


def payload(body: Body, reply: Answer) -> Body:
    if reply.status != 200:
        return {"error": reply.error or {"message": f"status {reply.status}", "type": "test", "code": None}}
    message = {"role": "assistant", "content": reply.text, "refusal": reply.refusal, **reply.message}
    prompt, completion = reply.counts or (prompt_tokens(body), len(reply.text.split()) + 1)
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        **({"usage": {**usage, "total_tokens": sum(usage.values())}} if reply.usage else {}),
    }


def prompt_tokens(body: Body) -> int:
    """Tokens as this server counts them: words."""
    return sum(len(message["content"].split()) for message in body["messages"])
