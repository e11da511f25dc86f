"""A real HTTP server that speaks Anthropic's Messages protocol, with a prompt cache that bills as theirs does."""

from __future__ import annotations

from tests.llm.chat_server import Answer, Behaviour, Body, ChatServer, stand_in


def text_of(content: str | list[Body]) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def plain(body: Body) -> Body:
    """The request as OpenAI's protocol would put it, for the stand-in."""
    return body | {"messages": [m | {"content": text_of(m["content"])} for m in body["messages"]]}


class MessagesServer(ChatServer):
    """See `ChatServer`; a token is a word. `cache` holds the prefixes that were marked."""

    def __init__(self, behaviour: Behaviour = lambda body, times: stand_in(plain(body), times)) -> None:
        super().__init__(behaviour)
        self.cache: set[str] = set()

    @property
    def url(self) -> str:
        return super().url.removesuffix("/v1")

    @property
    def spec(self) -> str:
        return f"anthropic:{self.model}@{self.url}"

    def payload(self, body: Body, reply: Answer) -> Body:
        if reply.status != 200:
            error = reply.error or {"type": "api_error", "message": f"status {reply.status}"}
            return {"type": "error", "error": error}
        new = written = read = 0
        for message in body["messages"]:
            content = message["content"]
            for block in [{"text": content}] if isinstance(content, str) else content:
                words = len(block["text"].split())
                if "cache_control" not in block:
                    new += words
                elif block["text"] in self.cache:
                    read += words
                else:
                    self.cache.add(block["text"])
                    written += words
        return {
            "id": "x",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": reply.text}],
            "stop_reason": reply.finish_reason if reply.finish_reason != "stop" else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": new,
                "cache_creation_input_tokens": written,
                "cache_read_input_tokens": read,
                "output_tokens": len(reply.text.split()) + 1,
            },
        }
