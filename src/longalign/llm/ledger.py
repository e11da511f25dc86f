"""The ledger: every paid call in one SQLite file. Stored replies cost nothing, and spending adds up over resumes.

A reply is found by the content of its request (model, messages, token limit, temperature, seed, stop), not by run, row
or position. Changed settings, another order or a killed process therefore never pay twice for the same call. A call is
recorded *before* it is sent; one whose process dies in flight stays open and counts at its worst case, so
the cost limit holds across kills too.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from longalign.base.files import fingerprint
from longalign.errors import LongAlignError, RunError
from longalign.llm.base import Failure, LanguageModel, Outcome, Reply, Request, close_model, tokens_usd
from longalign.llm.endpoint import Endpoint
from longalign.llm.reply import read_again

SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
  key TEXT PRIMARY KEY, model TEXT NOT NULL, kind TEXT NOT NULL, outcome TEXT NOT NULL, ends_with TEXT NOT NULL,
  prompt_bytes INTEGER NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL,
  created TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS open_calls (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, worst_usd REAL NOT NULL, pid INTEGER);
CREATE TABLE IF NOT EXISTS lost_calls (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, cost_usd REAL, reason TEXT NOT NULL);
"""
SHOWN_CHARS = 2000
MARKER_BYTES = 32
MAX_TOKENS_PER_BYTE = 1.0  # a tokenizer over bytes cannot make more; texts take 0.25 (English) to 0.4 (Chinese)


def request_key(model: str, request: Request) -> str:
    """Content key of one call."""
    content = asdict(request)
    del content["shared_prefix_characters"]  # changes what a call costs, not what it says
    for name in ("top_p", "reasoning_effort", "chat_template_kwargs", "extra_body"):
        if not content[name]:  # unset: the key of ledgers from before there were such fields
            del content[name]
    return fingerprint(model, content)


def prompt_bytes(request: Request) -> int:
    """UTF-8 bytes of all messages, with room for the role markers of a chat template."""
    return sum(len(message["content"].encode()) + MARKER_BYTES for message in request.messages)


@dataclass(frozen=True, kw_only=True)
class LedgerTotals:
    """What a ledger holds. Token sums are over calls that reported them, None where none did; so is money where a
    call has no price. `cleaned_replies`: those from which control characters and the like were taken out."""

    calls: int
    by_outcome: dict[str, int]
    prompt_tokens: int | None
    completion_tokens: int | None
    calls_without_token_counts: int
    lost_calls: int
    spent_usd: float | None
    cleaned_replies: int = 0


class Ledger:
    """The file. Safe for many threads of one process; another process may read it at any time (WAL)."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """`durable` syncs every reply to disk (paid calls); otherwise a power cut may lose the last few."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._db.executescript(SCHEMA)
            # Calls that a dead process left open were sent and may be billed: counted, but asked again.
            self._db.execute(
                "INSERT INTO lost_calls (key, cost_usd, reason) SELECT key, worst_usd, 'process ended' FROM open_calls"
            )
            self._db.execute("DELETE FROM open_calls")
        except sqlite3.DatabaseError as error:
            raise RunError(f"{path}: not a ledger ({error}); move the file away and run again") from None

    def close(self) -> None:
        """Close the file; the WAL is folded in."""
        with self._lock:
            self._db.close()

    def find(self, key: str) -> Outcome | None:
        """The remembered outcome of a call, marked as cached and free of charge."""
        with self._lock:
            row = self._db.execute("SELECT kind, outcome FROM replies WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        fields = cast(dict[str, Any], json.loads(row[1])) | {"cached": True}
        if row[0] != "reply":
            return Failure(**fields)
        # Earlier versions took thoughts and control tokens for a part of the reply, and remembered it so.
        return Reply(**fields) if "reasoning" in fields else read_again(Reply(**fields))

    def begin(self, key: str, worst_usd: float, max_cost_usd: float | None) -> int | None:
        """Write a call down before it is sent; None when it could pass the cap."""
        with self._lock:
            if max_cost_usd is not None and self.spent_usd() + self._reserved_usd() + worst_usd > max_cost_usd:
                return None
            cursor = self._db.execute(
                "INSERT INTO open_calls (key, worst_usd, pid) VALUES (?, ?, ?)", (key, worst_usd, os.getpid())
            )
            return cast(int, cursor.lastrowid)

    def end(self, call: int, key: str, request: Request, outcome: Outcome, cost_usd: float | None) -> None:
        """Record the outcome of a call, and drop its reservation, in one transaction."""
        keep = isinstance(outcome, Reply) or outcome.final
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM open_calls WHERE id = ?", (call,))
            if keep:
                self._db.execute(
                    "INSERT OR REPLACE INTO replies "
                    "(key, model, kind, outcome, ends_with, prompt_bytes, prompt_tokens, completion_tokens, cost_usd) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        key,
                        outcome.model,
                        "reply" if isinstance(outcome, Reply) else outcome.kind,
                        json.dumps(asdict(outcome), ensure_ascii=False),
                        request.messages[-1]["content"][-SHOWN_CHARS:],
                        prompt_bytes(request),
                        outcome.prompt_tokens,
                        outcome.completion_tokens,
                        cost_usd,
                    ),
                )
            elif isinstance(outcome, Failure):
                self._db.execute(
                    "INSERT INTO lost_calls (key, cost_usd, reason) VALUES (?, ?, ?)",
                    (key, cost_usd, f"{outcome.kind}: {outcome.message}"),
                )
            self._db.execute("COMMIT")

    def release(self, calls: Iterable[int]) -> None:
        """Drop reservations of calls that were refused as a whole, and so not billed."""
        with self._lock:
            self._db.executemany("DELETE FROM open_calls WHERE id = ?", [(call,) for call in calls])

    def lose(self, calls: Iterable[int]) -> None:
        """Count calls at their worst case that were given up and may have been sent."""
        with self._lock:
            for call in calls:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute(
                    "INSERT INTO lost_calls (key, cost_usd, reason) "
                    "SELECT key, worst_usd, 'endpoint given up' FROM open_calls WHERE id = ?",
                    (call,),
                )
                self._db.execute("DELETE FROM open_calls WHERE id = ?", (call,))
                self._db.execute("COMMIT")

    def spent_usd(self) -> float:
        """Money spent by all runs on this ledger, lost calls at their worst case included."""
        with self._lock:
            (replies,) = self._db.execute("SELECT COALESCE(SUM(cost_usd), 0.0) FROM replies").fetchone()
            (lost,) = self._db.execute("SELECT COALESCE(SUM(cost_usd), 0.0) FROM lost_calls").fetchone()
        return float(replies) + float(lost)

    def _reserved_usd(self) -> float:
        (reserved,) = self._db.execute("SELECT COALESCE(SUM(worst_usd), 0.0) FROM open_calls").fetchone()
        return float(reserved)

    def totals(self) -> LedgerTotals:
        """Counts, tokens and money over all runs."""
        with self._lock:
            calls, prompt, completion, unreported = self._db.execute(
                "SELECT COUNT(*), SUM(prompt_tokens), SUM(completion_tokens), "
                "COALESCE(SUM(prompt_tokens IS NULL), 0) FROM replies"
            ).fetchone()
            kinds = dict(self._db.execute("SELECT kind, COUNT(*) FROM replies GROUP BY kind ORDER BY kind").fetchall())
            (lost,) = self._db.execute("SELECT COUNT(*) FROM lost_calls").fetchone()
            cleaned = "SELECT COALESCE(SUM(json_extract(outcome, '$.cleaned_characters') > 0), 0) FROM replies"
            (cleaned_replies,) = self._db.execute(cleaned).fetchone()
            (unpriced,) = self._db.execute("SELECT COUNT(*) FROM replies WHERE cost_usd IS NULL").fetchone()
        return LedgerTotals(
            calls=calls,
            by_outcome=kinds,
            prompt_tokens=prompt,
            completion_tokens=completion,
            calls_without_token_counts=unreported,
            lost_calls=lost,
            spent_usd=None if unpriced else self.spent_usd(),
            cleaned_replies=cleaned_replies,
        )


class LedgeredModel:
    """A model behind a ledger: remembers, meters, and never passes the cap.

    Before a call, its worst case is reserved: the cap on new tokens plus one token per byte of prompt, so the last
    calls under a cap may be refused although they would have fitted. `price` is dollars per million prompt and
    completion tokens; None means unknown, and then cost is unknown too, not zero.
    """

    def __init__(
        self,
        model: LanguageModel,
        ledger: Ledger,
        *,
        price: tuple[float, float] | None,
        max_cost_usd: float | None = None,
    ) -> None:
        self.model = model
        self.ledger = ledger
        self.name = model.name
        self.batched = model.batched
        self.price = price
        self.max_cost_usd = max_cost_usd
        if max_cost_usd is not None and isinstance(model, Endpoint):
            model.retry_unanswered = False  # one reservation, one attempt that may be charged

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`; remembered replies come first and cost nothing."""
        misses: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            key = request_key(self.name, request)
            if (known := self.ledger.find(key)) is not None:
                yield index, known
            else:
                misses.setdefault(key, []).append(index)
        calls: dict[str, int] = {}
        for key, indices in misses.items():
            call = self.ledger.begin(key, self.worst_usd(requests[indices[0]]), self.max_cost_usd)
            if call is not None:
                calls[key] = call
                continue
            spent = self.ledger.spent_usd()
            message = f"${spent:.4f} of ${self.max_cost_usd:.4f} spent; the next call could pass the cap"
            for index in indices:
                yield index, Failure(kind="over_budget", message=message, model=self.name)
        keys = list(calls)
        try:
            for position, outcome in self.model.complete([requests[misses[key][0]] for key in keys]) if keys else ():
                key = keys[position]
                request = requests[misses[key][0]]
                cost_usd = self._cost_usd(request, outcome)
                outcome = replace(outcome, cost_usd=cost_usd)
                self.ledger.end(calls.pop(key), key, request, outcome, cost_usd)
                for index in misses[key]:
                    yield index, outcome
        except LongAlignError as error:
            give_back = self.ledger.lose if getattr(error, "maybe_billed", False) else self.ledger.release
            give_back(calls.values())
            raise

    def close(self) -> None:
        """Close the file and the model's connections."""
        self.ledger.close()
        close_model(self.model)

    def worst_usd(self, request: Request) -> float:
        """The most that one call can cost."""
        if not self.price or not any(self.price):
            return 0.0
        most_prompt_tokens = (
            prompt_bytes(request) * MAX_TOKENS_PER_BYTE * getattr(self.model, "worst_prompt_price", 1.0)
        )
        return tokens_usd(self.price, most_prompt_tokens, request.max_new_tokens)

    def _cost_usd(self, request: Request, outcome: Outcome) -> float | None:
        if self.price is None:
            return None
        return self._own_cost_usd(request, outcome) + outcome.lost_attempts * self.worst_usd(request)

    def _own_cost_usd(self, request: Request, outcome: Outcome) -> float:
        assert self.price is not None
        if outcome.prompt_tokens is not None and outcome.completion_tokens is not None:
            priced = outcome.priced_prompt_tokens
            prompt = outcome.prompt_tokens if priced is None else priced
            return tokens_usd(self.price, prompt, outcome.completion_tokens)
        if isinstance(outcome, Failure) and not outcome.maybe_billed:
            return 0.0
        return self.worst_usd(request)
