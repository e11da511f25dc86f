"""Notes to a person about an endpoint: each wording once, and only the first few wordings."""

from __future__ import annotations

import re
import threading

from longalign.base.progress import say

WORDINGS_SHOWN = 5


class Notes:
    """Safe for many threads."""

    def __init__(self, about: str) -> None:
        self._about = about
        self._wordings: set[str] = set()
        self._lock = threading.Lock()

    def once(self, text: str) -> None:
        """Print a line, unless one was printed that differs in its numbers at most."""
        wording = re.sub(r"\d+", "0", text)
        with self._lock:
            new = wording not in self._wordings and len(self._wordings) < WORDINGS_SHOWN
            self._wordings.add(wording)
        if new:
            say(f"note: {self._about}: {text}")
