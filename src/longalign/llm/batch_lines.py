"""The lines of a batch: a request as a line of the input file, a line of an output file as what it means. Pure.

Form: https://platform.openai.com/docs/api-reference/batch/request-input. A line of an output or error file holds either
a response with an HTTP status of its own, or an error where the request was never run (the batch expired).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from longalign.llm.base import Failure, Outcome, Request
from longalign.llm.refusals import NO_REPLY, RAISE_WINDOW, Refusal, error_inside, refusal

URL = "/v1/chat/completions"
MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
"""Of one input file, as OpenAI has it."""


def request_line(key: str, body: Mapping[str, Any]) -> bytes:
    """One request of an input file. `key` comes back with the answer: at most 64 characters."""
    line = {"custom_id": key, "method": "POST", "url": URL, "body": body}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def in_files(
    lines: Iterable[tuple[str, bytes]], *, most_requests: int = MOST_REQUESTS, most_bytes: int = MOST_BYTES
) -> Iterator[list[tuple[str, bytes]]]:
    """Lines by input file, in order. A line of more than `most_bytes` must not be among them."""
    file: list[tuple[str, bytes]] = []
    size = 0
    for key, line in lines:
        if file and (len(file) == most_requests or size + len(line) > most_bytes):
            yield file
            file, size = [], 0
        file.append((key, line))
        size += len(line)
    if file:
        yield file


@dataclass(frozen=True)
class Line:
    """A line of an output or error file. `status`: of its response, None where the request was not run."""

    key: str
    status: int | None
    body: object
    message: str = ""

    @property
    def answered(self) -> bool:
        """Whether the request was, and so paid."""
        return self.status is not None and 200 <= self.status < 300


def read_line(text: str) -> Line | None:
    """None for a line that is none, such as half a line or one without an id."""
    try:
        line = json.loads(text)
        key = line["custom_id"]
    except (ValueError, TypeError, KeyError):
        return None
    if not isinstance(key, str):
        return None
    response, error = line.get("response"), line.get("error")
    if isinstance(response, Mapping) and isinstance(response.get("status_code"), int):
        return Line(key, response["status_code"], response.get("body"))
    words = error if isinstance(error, Mapping) else {}
    return Line(key, None, None, str(words.get("message") or words.get("code") or "no response"))


def meaning_of(line: Line, request: Request, read: Callable[[Any, Request], Outcome], model: str) -> Outcome | Refusal:
    """The outcome of a line, or the refusal that does not concern this request alone.

    `read` is how the endpoint reads the body of a plain call. Errors mean what they mean in a plain call.
    """
    if line.status is None:
        return Refusal(meaning="overloaded", words=line.message, status=0)
    if line.answered:
        inside = error_inside(line.body)
        if inside is None:
            if isinstance(line.body, Mapping):
                return read(line.body, request)
            words = " ".join(str(line.body).split())[:120]
            return Failure(kind="malformed", message=f"no reply: {words}; {NO_REPLY}", maybe_billed=True, model=model)
        meant = refusal(*inside)
    else:
        meant = refusal(line.status, line.body)
    if meant.meaning == "too_long":
        return Failure(kind="too_long", message=f"{meant.words}; {RAISE_WINDOW}", model=model)
    if meant.meaning == "moderated":
        return Failure(kind="moderated", message=meant.words, model=model)
    if meant.meaning == "rejected":
        return Failure(kind="rejected", message=f"HTTP {meant.status}: {meant.words}", model=model)
    return meant
