"""What an endpoint or a local model gave, as a reply that is data or the failure that it is.

Every protocol hands over the same few things (`Given`); what they mean is decided here and nowhere else. A reply is
complete only if the finish reason is known to say so. Everything else is a failure with a kind of its own, and its
message names the setting that helps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

from longalign.llm.base import Call, Failure, FailureKind, Outcome, Reply, Request
from longalign.llm.thoughts import clean, take_apart

COMPLETE = {
    "stop", "eos", "eos_token", "end_token", "end_turn", "stop_token", "stop_sequence", "stop_str", "complete",
    "completed", "done", "finish", "finished", "finish_reason_stop",
}  # fmt: skip
CUT = {"length", "max_tokens", "max_length", "max_new_tokens", "max_output_tokens", "max_completion_tokens"}
WINDOW_FULL = {"model_length", "context_length", "model_context_window_exceeded", "context_window_exceeded"}
FILTERED = {
    "content_filter", "content_filtered", "safety", "refusal", "recitation", "prohibited_content", "blocklist", "spii",
    "sensitive", "guardrail_intervened", "moderation",
}  # fmt: skip
CALLED = {"tool_calls", "tool_call", "tool_use", "function_call"}
BROKEN = {
    "error",
    "abort",
    "aborted",
    "cancelled",
    "canceled",
    "timeout",
    "failed",
    "malformed_function_call",
    "unknown",
}
NO_REASON = "none"
LESS_THINKING = "--reasoning_effort low, or --chat_template_kwargs '{\"enable_thinking\": false}'"
HIGHER_CAP = "--max_new_tokens (of questions: --max_question_tokens)"

PLAUSIBLE_BYTES_PER_TOKEN = 5.5
PIECES = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{1,3}|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+|\d{1,3}|[^\w\s]+|_+"
)
"""A word, a number of up to three digits, a run of marks, three characters of Chinese or Japanese."""
LEAST_TOKENS_PER_PIECE = 2 / 3
"""Seven published tokenizers make at least 1.0 of ten kinds of text (docs/log.md); one that joins words makes less."""
SURE_TOKENS = 1000
"""A shorter prompt is not judged: nothing cuts it, and a few marks of a chat template would count."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What came back for one request, in no protocol's form.

    `content`, `reasoning`: a text, a list of parts, or None. `refusal`: the model's words where the protocol has a
    field for them. `called`: a tool was called. `opened`: the prompt ended with a mark that opens thoughts.
    """

    content: object
    finish_reason: str | None
    reasoning: object = None
    refusal: str | None = None
    called: bool = False
    opened: bool = False


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What a person knows about an endpoint that nobody else can.

    `complete`: finish reasons that also say a reply is complete; `none` for an endpoint that gives no reason.
    `counts_prompts`: its counts of prompt tokens are those of the whole prompt.
    """

    complete: frozenset[str] = frozenset()
    counts_prompts: bool = True


def read_reply(given: Given, request: Request, call: Call, habits: Habits | None = None) -> Outcome:
    """The outcome of an answered call; `call` holds what is known of it besides (see `Call`)."""
    said, thought = split_parts(given.content)
    parts = take_apart(said, opened=given.opened)
    answer, cleaned = clean(parts.answer)
    thoughts, _ = clean("\n".join(filter(None, (*split_parts(given.reasoning), thought, parts.thoughts))))
    call = replace(call, reasoning=thoughts.strip(), cleaned_characters=cleaned)
    if found := _fault(given, request, call, habits or Habits(), answer, closed=parts.closed):
        kind, message = found
        text = "" if kind in ("thinking_truncated", "only_thinking", "empty") else answer
        return Failure(kind=kind, message=message, text=text, maybe_billed=True, **vars(call))
    return Reply(text=answer, **vars(call))


def read_again(reply: Reply) -> Outcome:
    """A complete reply that was remembered before thoughts and control tokens were told from the answer."""
    parts = take_apart(reply.text)
    answer, cleaned = clean(parts.answer)
    read = replace(reply, text=answer, reasoning=parts.thoughts, cleaned_characters=cleaned)
    if parts.closed and (answer.strip() or not parts.thoughts):
        return read
    call = {field.name: getattr(read, field.name) for field in fields(Call)}
    return Failure(kind="only_thinking", message="thoughts, but no answer", **call)


def _fault(
    given: Given, request: Request, call: Call, habits: Habits, answer: str, *, closed: bool
) -> tuple[FailureKind, str] | None:
    """The kind of failure and the message, where the reply is not complete."""
    reason = str(given.finish_reason or NO_REASON).lower()
    silent = not answer.strip()
    thinking = not closed or (silent and bool(call.reasoning))
    if given.refusal or reason in FILTERED:
        return "moderated", given.refusal or f"stopped by the endpoint's filter (finish reason `{reason}`)"
    if habits.counts_prompts and (least := least_prompt_tokens(request, call.prompt_tokens)):
        return "prompt_cut", (
            f"the server cut the prompt: it read {call.prompt_tokens:,} of at least {least:,} tokens; raise its "
            "context (Ollama: num_ctx), or pass --check_prompt_tokens false if it counts differently"
        )
    if reason in WINDOW_FULL:
        return "too_long", "prompt and reply filled the model's window; raise the server's context"
    if reason in CUT:
        cap = f"max_new_tokens ({request.max_new_tokens:,})"
        if thinking:
            return "thinking_truncated", f"still thinking at {cap}; raise {HIGHER_CAP}, or think less: {LESS_THINKING}"
        return "truncated", f"the reply reached {cap}; raise {HIGHER_CAP}"
    if reason in CALLED or (given.called and silent):
        return "incomplete", "the model called a tool in place of an answer; take tools out of --extra_body"
    if reason in BROKEN - habits.complete:
        return "incomplete", f"the server broke the reply off (finish reason `{reason}`); its log says why"
    if reason not in {*COMPLETE, *habits.complete}:
        ended = "no finish reason" if reason == NO_REASON else f"finish reason `{reason}`"
        return "incomplete", f"{ended}, so the reply may be half; if it is always whole: --finish_reasons {reason}"
    if not closed and not silent:
        return "incomplete", f"thoughts were opened after the answer and never closed; {LESS_THINKING}"
    if thinking:
        return "only_thinking", (
            f"thoughts, but no answer; {LESS_THINKING}, or correct the server's reasoning parser: it takes the "
            "answer for a thought"
        )
    return ("empty", "the reply is empty; another model or --system_prompt may help") if silent else None


def split_parts(content: object) -> tuple[str, str]:
    """Text and thoughts of a message's content: a text, a list of typed parts (mappings or objects), or nothing."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if isinstance(content, Mapping) or not isinstance(content, Iterable):
        content = [content]
    said: list[str] = []
    thought: list[str] = []
    for part in content:
        fields = part if isinstance(part, Mapping) else vars(part) if hasattr(part, "__dict__") else {"text": part}
        kind = str(fields.get("type") or "text")
        thinks = any(word in kind for word in ("think", "reason", "thought", "summary"))
        keys = ("thinking", "reasoning", "text", "summary", "content") if thinks else ("text", "content")
        value = next((fields[key] for key in keys if fields.get(key)), None)
        if kind in ("text", "output_text") or thinks:
            (thought if thinks else said).append("".join(split_parts(value)))
    return "".join(said), "\n".join(thought)


def least_prompt_tokens(request: Request, reported: int | None) -> int | None:
    """The fewest tokens the prompt can have, where an endpoint reports fewer than that, else None.

    A token covers no more than a word, so the words of a text tell a prompt that was cut, whatever the tokenizer.
    """
    if reported is None:
        return None
    texts = [message["content"] for message in request.messages]
    if sum(len(text.encode()) for text in texts) <= PLAUSIBLE_BYTES_PER_TOKEN * max(reported, SURE_TOKENS):
        return None  # nearly all replies: counting words takes 10 ms of a long document
    least = int(LEAST_TOKENS_PER_PIECE * sum(1 for text in texts for _ in PIECES.finditer(text)))
    return least if least > max(reported, SURE_TOKENS) else None


def reported_tokens(prompt: object, completion: object) -> tuple[int | None, int | None]:
    """Token counts as an endpoint reports them; no prompt has 0 tokens, so zeros mean that it does not count."""
    counts = [int(n) if isinstance(n, int | float) and n >= 0 else None for n in (prompt, completion)]
    return counts[0] or None, counts[1] if counts[0] else counts[1] or None
