# ruff: noqa: E501
"""What servers say, in their own forms, and what it means."""

import pytest

from longalign.llm.refusals import Meaning, error_inside, refusal

SAID: list[tuple[Meaning, int, object]] = [
    # llama.cpp, SGLang, TGI, LM Studio, Groq, Ollama, Together, transformers serve, vLLM, Anthropic (two), Gemini
    ("too_long", 400, {"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it"}}),
    ("too_long", 400, {"object": "error", "message": "The input (30018 tokens) is longer than the model's context length (4096 tokens).", "code": 400}),
    ("too_long", 422, {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 30000", "error_type": "validation"}),
    ("too_long", 400, {"error": "Trying to keep the first 30000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"}),
    ("too_long", 400, {"error": {"message": "Please reduce the length of the messages or completion.", "code": "context_length_exceeded"}}),
    ("too_long", 400, {"error": {"message": "input length exceeds maximum context length"}}),
    ("too_long", 422, {"error": {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 32769. Given: 66000 `inputs` tokens"}}),
    ("too_long", 400, {"detail": "Input of 30000 tokens exceeds the model limit"}),
    ("too_long", 400, {"error": {"message": "'max_tokens' is too large: 512. This model's maximum context length is 8192 tokens and your request has 9000 input tokens"}}),
    ("too_long", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}}),
    ("too_long", 400, {"type": "error", "error": {"message": "input length and `max_tokens` exceed context limit: 199927 + 20000 > 200000"}}),
    ("too_long", 400, [{"error": {"code": 400, "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", "status": "INVALID_ARGUMENT"}}]),
    ("account", 402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}),
    ("account", 429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}),
    ("account", 400, {"error": {"message": "Your credit balance is too low to access the API."}}),
    # limits by the minute name plans and billing pages
    ("rate_limit", 429, {"error": {"message": "Rate limit reached on tokens per min (TPM): Limit 30000. Visit /account/billing to raise it"}}),
    ("rate_limit", 429, [{"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and billing details. Please retry in 20s."}}]),
    ("moderated", 403, {"error": {"message": "Your chosen model requires moderation and your input was flagged"}}),
    ("moderated", 400, {"error": {"message": "Output data may contain inappropriate content.", "code": "data_inspection_failed"}}),
    ("permission", 401, {"error": {"message": "Incorrect API key provided"}}),
    ("unknown_model", 404, {"error": {"message": "The model `x` does not exist"}}),
    ("overloaded", 503, {"error": {"message": "Loading model"}}),
    ("overloaded", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ("overloaded", 502, "<html><h1>502 Bad Gateway</h1></html>"),
    ("server", 500, {"error": {"message": "CUDA out of memory", "code": 500}}),
    ("rejected", 400, {"error": {"message": "max_tokens must be at least 1"}}),
    ("rejected", 400, {"error": {"message": "`temperature` is deprecated for this model."}}),
    ("rejected", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
]  # fmt: skip


@pytest.mark.parametrize(("meaning", "status", "body"), SAID)
def test_each_servers_words_mean_what_they_say(meaning: Meaning, status: int, body: object) -> None:
    found = refusal(status, body)
    assert found.meaning == meaning
    assert found.words.split()[-1].strip(".") in str(body), "the server's own words are kept"
    assert "<h1>" not in found.words


def test_an_error_that_came_with_http_200_is_found_and_a_reply_is_not() -> None:
    upstream = {"error": {"message": "Provider returned error: rate limited upstream", "code": 429}}
    assert error_inside(upstream) == (429, upstream)
    assert error_inside({"error": {"message": "boom"}}) == (500, {"error": {"message": "boom"}})
    assert error_inside({"object": "error", "message": "rate limit", "code": None}) is not None
    assert error_inside({"choices": [{"message": {}}], "error": None}) is None
    assert error_inside({"choices": []}) is None
