"""What an error of an endpoint means, from its HTTP status and its body. Pure: no call, no SDK.

Servers agree neither on statuses nor on the form of the body, so code, type and message are read together. The words
of the servers themselves are kept, for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Meaning = Literal[
    "account",  # payment is missing: no call will be answered
    "permission",  # the key is wrong or may not do this
    "unknown_model",  # wrong name or address
    "rate_limit",  # too many calls just now
    "overloaded",  # no capacity just now, loading, a gateway without a server behind it
    "moderated",  # a content filter stopped the request
    "too_long",  # prompt, or prompt and new tokens, do not fit the model's window
    "rejected",  # this request is refused, in words that are not known here
    "server",  # the server failed at this request
]
SHOWN = 300

ACCOUNT = re.compile(
    r"insufficient.{0,3}(quota|balance|credit|funds)|credit balance is too low|payment.{0,3}required|billing"
    r"|exceeded your current quota|out of credits|(balance|credits?) (is|are|has been|have been) (exhausted|used up)"
    r"|account.{0,20}(overdue|suspended|in arrears)|arrearage|quota.{0,20}(exhausted|used up)|余额不足|欠费",
    re.IGNORECASE,
)
MODERATED = re.compile(
    r"content.?filter|content.?policy|content.?management.?policy|moderation|flagged|data.?inspection.?failed"
    r"|prohibited.?content|safety (system|reasons|filter)|inappropriate content|responsibleai",
    re.IGNORECASE,
)
TOO_LONG = re.compile(
    r"context.?length|context.?size|context.?window|maximum context|model.?max.?(prompt|len)|too long|too many tokens"
    r"|max(imum)?_?(new_)?_?tokens.{0,60}(too large|must be <=|exceed)"
    r"|exceeds? the (model|token|context|input).{0,12}limit"
    r"|must have less than \d+ tokens|must be <= ?\d+.{0,12}given"
    r"|(prompt|input|request|tokens?)\b.{0,80}\b(exceeds?|longer than|larger than|greater than)\b.{0,60}"
    r"(token|context|length|limit|window|max)"
    r"|(exceeds?|above|over)\b.{0,50}\b(maximum|limit|number) (number )?of (input |prompt )?tokens"
    r"|token count.{0,40}exceed|reduce (the|your) (length|prompt|input|number of)|string_above_max_length"
    r"|range of input length|prompt.{0,20}too (large|big)|request_too_large"
    r"|kv.?cache.{0,40}(not enough|insufficient|exceed)|context the overflows",
    re.IGNORECASE,
)
RATE = re.compile(
    r"rate.?limit|too many requests|requests per (minute|day|second)|tokens per (minute|day)|throttl", re.I
)
RETRY_SOON = re.compile(r"(retry|try again) (in|after)|tokens per min|free_tier", re.IGNORECASE)
BUSY = re.compile(
    r"overloaded|loading|no capacity|at capacity|server (is )?busy|temporarily unavailable|warming up", re.I
)
SHORT_KEY = 8
"""A shorter one is a placeholder and may occur in any word."""
NO_REPLY = "check the URL after `@`: another protocol, a stream or a proxy answers there"
RAISE_WINDOW = "raise the server's context, or give it less (data build: --max_length_tokens; ask: --window)"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """`words`: the server's own. `clear`: they, or its code, say so; otherwise only the status does."""

    meaning: Meaning
    words: str
    status: int
    clear: bool = True


def refusal(status: int, body: object) -> Refusal:
    """What an error means. `body`: parsed JSON in any of the known forms, or the text of the answer."""
    words, code = words_and_code(body)
    said = f"{code} {words}"
    words = words or f"HTTP {status}, without a word"

    def meant(meaning: Meaning, *, clear: bool = True) -> Refusal:
        return Refusal(meaning=meaning, words=words, status=status, clear=clear)

    unpaid = ACCOUNT.search(said) is not None
    if status == 429 and "insufficient_quota" not in code:  # limits by the minute name plans and billing pages, too
        unpaid = unpaid and not RATE.search(said) and not RETRY_SOON.search(words)
    if status == 402 or (status in (400, 403, 429) and unpaid):
        return meant("account", clear=unpaid)
    if status in (400, 403, 422, 451) and MODERATED.search(said):
        return meant("moderated")
    if status in (401, 403):
        return meant("permission")
    if status == 404:
        return meant("unknown_model")
    if status == 413 or (status in (400, 422, 500) and TOO_LONG.search(said) and not RATE.search(said)):
        return meant("too_long")
    if status == 429:
        return meant("rate_limit")
    if status in (408, 409, 425, 502, 503, 504, 521, 522, 523, 524, 529) or (status >= 500 and BUSY.search(said)):
        return meant("overloaded")
    if status >= 500:
        return meant("server")
    if RATE.search(code):
        return meant("rate_limit")
    return meant("rejected", clear=False)


def error_inside(body: object) -> tuple[int, object] | None:
    """The status and body of an error that came as HTTP 200; None where the answer is none."""
    if not isinstance(body, Mapping) or body.get("choices") or body.get("content"):
        return None
    error = body.get("error")
    if not error and body.get("object") != "error" and body.get("type") != "error" and not body.get("detail"):
        return None
    inner = error if isinstance(error, Mapping) else body
    for value in (inner.get("code"), inner.get("status"), inner.get("status_code"), body.get("code")):
        if str(value).isdigit() and 400 <= int(str(value)) < 600:
            return int(str(value)), body
    words, code = words_and_code(body)
    if RATE.search(f"{code} {words}"):
        return 429, body
    return (
        400 if ACCOUNT.search(f"{code} {words}") or TOO_LONG.search(words) or MODERATED.search(words) else 500
    ), body


def words_and_code(body: object) -> tuple[str, str]:
    """The message of an error body, and its codes and types joined, each perhaps empty.

    Forms: `{"error": {"message", "code", "type"}}` (OpenAI), `{"error": "text"}` (TGI, LM Studio, Ollama), `{"detail":
    "text" or [{"loc", "msg", "type"}]}` (FastAPI), `{"object": "error", "message"}` (SGLang, older vLLM), `[{"error":
    ...}]` (Gemini), a page of HTML, or text.
    """
    if isinstance(body, str):
        return _short(re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", body, flags=re.DOTALL | re.IGNORECASE)), ""
    if isinstance(body, Mapping):
        inner = body.get("error") or body.get("detail") or body.get("errors")
        code = " ".join(
            str(body[name])
            for name in ("code", "type", "error_type", "status")
            if isinstance(body.get(name), str | int)
        )
        if inner is not None:
            words, inner_code = words_and_code(inner)
            return words or _short(str(body.get("message") or "")), f"{code} {inner_code}".strip()
        words = str(body.get("message") or body.get("msg") or "")
        where = body.get("loc")
        if isinstance(where, Sequence) and not isinstance(where, str):
            words = f"{'.'.join(str(part) for part in where)}: {words}"
        metadata = body.get("metadata")
        if isinstance(metadata, Mapping) and isinstance(metadata.get("raw"), str):
            words = f"{words} ({metadata['raw']})"  # a router's note of what the provider behind it said
        return _short(words), code
    if isinstance(body, Sequence) and body:
        found = [words_and_code(item) for item in body]
        return _short("; ".join(words for words, _ in found if words)), " ".join(code for _, code in found if code)
    return "", ""


def body_of(response: Any) -> object:
    """The parsed body of an HTTP answer, or its text."""
    try:
        return response.json()
    except ValueError:
        return response.text


def fields_of(answered: Any) -> object:
    """The fields of an SDK's answer, for a look at whether it is an error; None for a real reply."""
    if getattr(answered, "choices", None) or getattr(answered, "content", None):
        return None
    if isinstance(answered, str | list) or not hasattr(answered, "__dict__"):
        return answered
    return {**vars(answered), **(getattr(answered, "model_extra", None) or {})}


def _short(text: str) -> str:
    return " ".join(text.split())[:SHOWN]


def without_key(text: str, key: str) -> str:
    """One short line of an error's words, without the key."""
    if key:  # a placeholder (`none`, `x`) is hidden only where it stands alone
        edge = r"\b" if len(key) < SHORT_KEY else ""
        text = re.sub(f"{edge}{re.escape(key)}{edge}", "[key]", text)
    text = re.sub(r"\bsk-[\w*-]{6,}", "[key]", text)
    return " ".join(text.split())[:300]
