"""Which parameter an endpoint refuses, read from the words of its error. No two servers use the same."""

from __future__ import annotations

import re
from typing import Any

_REFUSED = re.compile(
    r"support|deprecated|permitted|not allowed|\bonly\b|unknown|unrecogni[sz]ed|unexpected|extra_forbidden|"
    r"may only|must be (?:set to )?1\b",
    re.IGNORECASE,
)
_POSITIVE = re.compile(r"strictly positive|must be positive|greater than 0|> ?0(?:\.0*)?\b|non-?zero", re.IGNORECASE)
NEAR = 160
"""Characters between the name of a parameter and the word that refuses it."""
LONGEST = 1000
"""Characters of a message that are read."""


def words_of(error: Any) -> str:
    """What an error of one of the SDKs says of parameters, without the request that some servers repeat in it."""
    body = error.body if isinstance(error.body, dict) else {}
    details = body.get("detail")
    if isinstance(details, list):  # FastAPI: where it is, what is wrong, and the input
        said = [str(detail.get(key, "")) for detail in details if isinstance(detail, dict) for key in ("loc", "msg")]
    else:
        said = [str(error.message)[:LONGEST], str(body.get("param") or "")]
    return " ".join(said)


def is_refused(parameter: str, text: str) -> bool:
    """Whether an error says that the endpoint does not take this parameter, or takes no other value than its own."""
    return any(
        _REFUSED.search(text[max(0, name.start() - NEAR) : name.end() + NEAR])
        for name in re.finditer(rf"\b{parameter}\b", text)
    )


def wants_positive(parameter: str, text: str) -> bool:
    """Whether an error says that 0 is too little for this parameter."""
    return re.search(rf"\b{parameter}\b", text) is not None and _POSITIVE.search(text) is not None
