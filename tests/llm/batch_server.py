"""A real HTTP server with plain chat completions and OpenAI's batch API over the same model, with faults on demand."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from longalign.base.files import fingerprint
from tests.llm.chat_server import Behaviour, Body, ChatServer, payload, send, stand_in


@dataclass
class Batch:
    """A batch here. `fate`: how it ends; `share`: of its requests that were answered by then."""

    id: str
    file_id: str
    metadata: dict[str, str]
    lines: list[Body]
    fate: str = "completed"
    share: float = 1.0
    errors: list[Body] = field(default_factory=list)
    asked: int = 0
    status: str = "validating"
    output: str | None = None
    failed: str | None = None

    def as_body(self) -> Body:
        ended = self.status == self.fate
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": self.file_id,
            "completion_window": "24h",
            "created_at": 0,
            "status": self.status,
            "metadata": self.metadata,
            "output_file_id": self.output,
            "error_file_id": self.failed,
            "errors": {"object": "list", "data": self.errors} if ended and self.errors else None,
            "request_counts": {"total": len(self.lines), "completed": len(self.lines) if ended else 0, "failed": 0},
        }


class BatchServer(ChatServer):
    """See `ChatServer`. `decide` may change a new batch; a batch ends when it was asked after `polls` times.

    `on`: called with the name of a step and its number from 1, before the step (`upload`, `create`, `list`, `poll`,
    `content`) and after it (`uploaded`, `created`), which holds up the answer; it may return a status to refuse with.
    `answered`: how often each request was answered in batches, by its content, and so paid.
    """

    def __init__(
        self,
        behaviour: Behaviour = stand_in,
        *,
        decide: Callable[[Batch], None] = lambda batch: None,
        on: Callable[[str, int], int | None] = lambda step, number: None,
        polls: int = 2,
    ) -> None:
        super().__init__(behaviour)
        self.decide, self.on, self.polls = decide, on, polls
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Batch] = {}
        self.steps: dict[str, int] = {}
        self.answered: dict[str, int] = {}
        self.list_after_s = 0.0
        """How long a new batch is missing from the list."""
        self.created_at: dict[str, float] = {}

    @property
    def sizes(self) -> list[int]:
        """Requests of each batch."""
        return [len(batch.lines) for batch in self.batches.values()]

    def route(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        path = request.path.partition("?")[0].removeprefix("/v1")
        if path == "/chat/completions":
            self.handle(request, json.loads(body))
        else:
            status, found = self.batch_api(request.command, path, body)
            send(request, status, found if isinstance(found, bytes) else json.dumps(found).encode())

    def step(self, name: str) -> int | None:
        with self.lock:
            self.steps[name] = number = self.steps.get(name, 0) + 1
        return self.on(name, number)

    def batch_api(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        name = {("POST", "/files"): "upload", ("POST", "/batches"): "create", ("GET", "/batches"): "list"}.get(
            (method, path), "content" if path.endswith("/content") else "poll"
        )
        if status := self.step(name):
            return status, {"error": {"message": f"status {status}", "type": "test"}}
        if name == "upload":
            found: tuple[int, Any] = self.upload(body)
            after = "uploaded"
        elif name == "create":
            found = self.create(json.loads(body))
            after = "created"
        elif name == "list":
            now = time.monotonic()
            listed = [b for b in self.batches.values() if now - self.created_at[b.id] >= self.list_after_s]
            return 200, {"object": "list", "data": [b.as_body() for b in reversed(listed)], "has_more": False}
        elif name == "content":
            content = self.files.get(path.split("/")[2])
            return (404, {"error": {"message": "No such File object"}}) if content is None else (200, content)
        else:
            return self.poll(path.split("/")[2])
        if status := self.step(after):
            return status, {"error": {"message": f"status {status}", "type": "test"}}
        return found

    def upload(self, body: bytes) -> tuple[int, Body]:
        assert re.search(rb'name="purpose"\r\n\r\nbatch', body)
        match = re.search(rb'name="file"; filename="([^"]+)".*?\r\n\r\n(.*)\r\n--', body, re.DOTALL)
        assert match is not None
        with self.lock:
            file_id = f"file-{len(self.files)}"
            self.files[file_id] = match[2]
        return 200, {"id": file_id, "object": "file", "bytes": len(match[2]), "purpose": "batch"}

    def create(self, asked: Body) -> tuple[int, Body]:
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        with self.lock:
            batch = Batch(f"batch-{len(self.batches)}", asked["input_file_id"], asked["metadata"], lines)
            self.decide(batch)
            self.batches[batch.id] = batch
            self.created_at[batch.id] = time.monotonic()
        return 200, batch.as_body()

    def poll(self, batch_id: str) -> tuple[int, Body]:
        batch = self.batches.get(batch_id)
        if batch is None:
            return 404, {"error": {"message": f"No batch found with id '{batch_id}'."}}
        with self.lock:
            batch.asked += 1
            if batch.asked > self.polls and batch.status != batch.fate:
                self.run(batch)
                batch.status = batch.fate
            elif batch.status == "validating":
                batch.status = "in_progress"
            return 200, batch.as_body()

    def run(self, batch: Batch) -> None:
        """Answer the lines, the last ones first, as the real one keeps no order."""
        if batch.fate == "failed":
            return
        done = round(batch.share * len(batch.lines))
        outputs, errors = [], []
        for number, line in reversed(list(enumerate(batch.lines))):
            said: Body = {"id": "r", "custom_id": line["custom_id"], "response": None, "error": None}
            if number >= done:
                said["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
                errors.append(said)
                continue
            key = fingerprint(line["body"])
            self.times[key] += 1
            reply = self.behaviour(line["body"], self.times[key])
            said["response"] = {"status_code": reply.status, "request_id": "q", "body": payload(line["body"], reply)}
            if reply.status == 200:
                self.answered[key] = self.answered.get(key, 0) + 1
            (outputs if reply.status == 200 else errors).append(said)
        for name, lines in (("output", outputs), ("failed", errors)):
            if lines:
                file_id = f"file-{batch.id}-{name}"
                self.files[file_id] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
                setattr(batch, name, file_id)
