"""Lines of a batch's files: what goes in comes out, limits hold, and nothing that a server may write breaks reading."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.llm.base import Failure, Outcome, Reply, Request
from longalign.llm.batch_lines import Line, in_files, meaning_of, read_line, request_line
from longalign.llm.refusals import Refusal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
REQUEST = Request(messages=({"role": "user", "content": "Who?"},))


def read(body: Any, request: Request) -> Outcome:
    return Reply(text=str(body))


@given(key=st.text(min_size=1, max_size=64), body=st.dictionaries(st.text(max_size=9), JSON, max_size=4))
def test_a_request_is_one_line_that_holds_it_whole(key: str, body: dict[str, Any]) -> None:
    line = request_line(key, body)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}


@given(
    sizes=st.lists(st.integers(1, 50), max_size=40), most_requests=st.integers(1, 7), most_bytes=st.integers(50, 120)
)
def test_files_hold_every_line_once_in_order_within_both_limits(
    sizes: list[int], most_requests: int, most_bytes: int
) -> None:
    lines = [(str(number), b"x" * size) for number, size in enumerate(sizes)]
    files = list(in_files(lines, most_requests=most_requests, most_bytes=most_bytes))
    assert [line for file in files for line in file] == lines
    assert all(1 <= len(file) <= most_requests and sum(len(line) for _, line in file) <= most_bytes for file in files)
    for file, following in pairwise(files):  # none is smaller than it must be
        size = sum(len(line) for _, line in file) + len(following[0][1])
        assert len(file) == most_requests or size > most_bytes


@given(JSON | st.fixed_dictionaries({"custom_id": st.text()}, optional={"response": JSON, "error": JSON}))
def test_any_json_is_a_line_or_none(value: Any) -> None:
    line = read_line(json.dumps(value))
    assert (line is not None) == (isinstance(value, dict) and isinstance(value.get("custom_id"), str))


@given(st.text())
def test_any_text_is_a_line_or_none(text: str) -> None:
    line = read_line(text)
    assert line is None or isinstance(line, Line)


@given(status=st.integers(100, 599), body=JSON)
def test_any_response_has_a_meaning(status: int, body: Any) -> None:
    meant = meaning_of(Line("k", status, body), REQUEST, read, "m")
    assert isinstance(meant, Reply | Failure | Refusal)
    assert status < 300 or not isinstance(meant, Reply)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ({"response": {"status_code": 200, "body": {"choices": [1]}}}, "reply"),
        ({"response": {"status_code": 200, "body": {"error": {"message": "x", "code": 429}}}}, "rate_limit"),
        ({"response": {"status_code": 200, "body": "<html>"}}, "malformed"),
        ({"response": {"status_code": 400, "body": {"error": {"message": "maximum context length is 8"}}}}, "too_long"),
        ({"response": {"status_code": 400, "body": {"error": {"code": "content_filter"}}}}, "moderated"),
        ({"response": {"status_code": 400, "body": {"error": {"message": "no"}}}}, "rejected"),
        ({"response": {"status_code": 429, "body": {"error": {"code": "insufficient_quota"}}}}, "account"),
        ({"response": {"status_code": 401, "body": None}}, "permission"),
        ({"response": {"status_code": 500, "body": None}}, "server"),
        ({"response": None, "error": {"code": "batch_expired", "message": "too late"}}, "overloaded"),
        ({"response": None, "error": None}, "overloaded"),
    ],
)
def test_errors_of_a_line_mean_what_those_of_a_plain_call_mean(line: dict[str, Any], meaning: str) -> None:
    found = read_line(json.dumps({"custom_id": "k", **line}))
    assert found is not None
    meant = meaning_of(found, REQUEST, read, "m")
    kind = "reply" if isinstance(meant, Reply) else meant.kind if isinstance(meant, Failure) else meant.meaning
    assert kind == meaning
