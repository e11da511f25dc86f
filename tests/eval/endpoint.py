"""An HTTP endpoint that speaks OpenAI's chat protocol, with answers by a function of the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.llm.chat_server import Answer, Body, ChatServer


class Endpoint(ChatServer):
    """What evaluations ask; see `ChatServer`."""

    model = "stand-in"

    @property
    def seen(self) -> list[Body]:
        """The requests, in the order in which they came."""
        return self.bodies

    def prompts(self) -> list[str]:
        """The last message of every request."""
        return [body["messages"][-1]["content"] for body in self.bodies]


def serve(answer: Callable[[Body], str | int], complaint: str | None = None) -> Endpoint:
    """`answer(body)` gives the text, or an HTTP status to fail with; `complaint` is the message of such a reply."""

    def behaviour(body: Body, times: int) -> Answer:
        said = answer(body)
        if isinstance(said, str):
            return Answer(said)
        error: dict[str, Any] = {"message": complaint or f"status {said}", "type": None, "code": None}
        return Answer(status=said, error=error)

    return Endpoint(behaviour)
