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


def words_of(error: Any) -> str:
    """All an error of one of the SDKs says: message, parameter and body."""
    return " ".join(str(part) for part in (error.message, getattr(error, "param", ""), error.body) if part)


def is_refused(parameter: str, text: str) -> bool:
    """Whether an error says that the endpoint does not take this parameter, or takes no other value than its own."""
    return any(
        _REFUSED.search(text[max(0, name.start() - NEAR) : name.end() + NEAR])
        for name in re.finditer(rf"\b{parameter}\b", text)
    )


def wants_positive(parameter: str, text: str) -> bool:
    """Whether an error says that 0 is too little for this parameter."""
    return re.search(rf"\b{parameter}\b", text) is not None and _POSITIVE.search(text) is not None
