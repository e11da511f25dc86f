"""How often a request is tried, and one request on its way through its attempts."""

from __future__ import annotations

from dataclasses import dataclass

from longalign.llm.base import Request

ATTEMPTS = 8
OWN_ATTEMPTS = 5
"""Of a request that the server fails at (HTTP 500), and of one that fails while others are answered."""
DOUBTFUL_ATTEMPTS = 2
"""Of one that the server fails at, where many before it failed so and none was answered between."""
UNANSWERED_ATTEMPTS = 3
"""Of a request that gets no answer within the time limit: each may be charged, and takes the whole limit."""
ACCOUNT_REFUSALS = 3
"""In a row end the run, where only the status says that payment is missing: a proxy may err."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0


@dataclass
class Course:
    """One request on its way through its attempts. `own`: failed ones since the last of which others were answered."""

    request: Request
    started_s: float
    pause_s: float
    attempts: int = 0
    own: int = 0
    unanswered: int = 0
    lost: int = 0
    answers_seen: int = 0
    last: str = ""
    slept_until: float = 0.0
