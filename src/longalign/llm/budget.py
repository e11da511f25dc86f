"""Money under a cap: what is spent, what calls under way may still cost, and whether one more may be made."""

from __future__ import annotations

import threading

ENOUGH_PROMPTS = 8
MIN_BYTES = 1000
"""Of a prompt that teaches how many tokens a byte takes; in shorter ones the chat template's own tokens weigh in."""
MARGIN = 1.2
MAX_TOKENS_PER_BYTE = 1.0  # a tokenizer over bytes cannot make more; texts take 0.25 (English) to 0.4 (Chinese)
LATER = 0


class Budget:
    """Safe for many threads. Sums are kept, not counted again for each call."""

    def __init__(self, spent_usd: float, ratio: float, prompts: int) -> None:
        """`ratio`: the highest reported tokens per byte so far, over so many `prompts` of at least `MIN_BYTES`."""
        self.spent_usd = spent_usd
        self._ratio = ratio
        self._prompts = prompts
        self._reserved: dict[int, float] = {}
        self._held_usd = 0.0
        self._calls = 0
        self._changed = threading.Condition()

    @property
    def tokens_per_byte(self) -> float:
        """Likely the most that a prompt takes: `MARGIN` times the highest ratio reported, once there are enough."""
        return (
            min(MAX_TOKENS_PER_BYTE, MARGIN * self._ratio) if self._prompts >= ENOUGH_PROMPTS else MAX_TOKENS_PER_BYTE
        )

    def reserve(
        self, worst_usd: float, likely_usd: float, cap_usd: float | None, *, patient: bool
    ) -> tuple[int, float] | None:
        """Number and reservation of a call that may be made; None where it could pass the cap; `(LATER, 0)` where that
        is open until calls under way have ended (with `patient`, this waits for them instead).

        Where the worst case would pass the cap although nothing else is under way, `likely_usd` decides.
        """
        with self._changed:
            amount = worst_usd
            while cap_usd is not None and self.spent_usd + self._held_usd + worst_usd > cap_usd:
                if self.spent_usd + min(likely_usd, worst_usd) > cap_usd:
                    return None
                if not self._reserved:
                    amount = min(likely_usd, worst_usd)
                    break
                if not patient:
                    return LATER, 0.0
                self._changed.wait()
            return self._hold(amount), amount

    def hold(self, usd: float) -> int:
        """Reserve for a call that was made already, whatever the cap says; returns its number."""
        with self._changed:
            return self._hold(usd)

    def _hold(self, usd: float) -> int:
        self._calls += 1
        self._reserved[self._calls] = usd
        self._held_usd += usd
        return self._calls

    def settle(self, call: int, cost_usd: float) -> None:
        """A call has ended and cost so much."""
        with self._changed:
            self._held_usd -= self._reserved.pop(call, 0.0)
            if not self._reserved:
                self._held_usd = 0.0  # without what rounding left
            self.spent_usd += cost_usd
            self._changed.notify_all()

    def reserved(self, call: int) -> float:
        """What is held for a call."""
        with self._changed:
            return self._reserved.get(call, 0.0)

    def learn(self, prompt_bytes: int, prompt_tokens: int | None) -> None:
        """An endpoint has reported the tokens of a prompt."""
        if prompt_tokens and prompt_bytes >= MIN_BYTES:
            with self._changed:
                self._ratio = max(self._ratio, prompt_tokens / prompt_bytes)
                self._prompts += 1
