"""How many calls may be under way at once: as many as wanted, fewer while the endpoint says that there are too many."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

SETTLED_S = 1.0
"""Refusals within this time of a cut answer calls from before it: a whole burst halves the number once."""


class Slots:
    """Additive increase, multiplicative decrease, as TCP does it: half after a refusal, one more a round of answers."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._allowed = float(most)
        self._used = 0
        self._cut_at = float("-inf")
        self._free = threading.Condition()

    @property
    def allowed(self) -> int:
        """Calls that may be under way now, at least one."""
        return max(1, int(self._allowed))

    @contextmanager
    def one(self) -> Iterator[None]:
        """Waits for a slot and holds it."""
        with self._free:
            while self._used >= self.allowed:
                self._free.wait()
            self._used += 1
        try:
            yield
        finally:
            with self._free:
                self._used -= 1
                self._free.notify_all()

    def answered(self) -> None:
        """A call was answered."""
        with self._free:
            if self._allowed < self.most:
                self._allowed = min(float(self.most), self._allowed + 1 / self._allowed)
                self._free.notify_all()

    def too_many(self, now_s: float) -> None:
        """A call was refused because there are too many."""
        with self._free:
            if now_s - self._cut_at >= SETTLED_S:
                self._cut_at = now_s
                self._allowed = max(1.0, self._allowed / 2)
