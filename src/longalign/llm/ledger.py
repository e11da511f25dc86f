"""The ledger: every paid call in one SQLite file. Stored replies cost nothing, and spending adds up over resumes.

A reply is found by the content of its request (model, messages, token limit, temperature, seed, stop), not by run, row
or position. Changed settings, another order or a killed process therefore never pay twice for the same call. A call is
recorded *before* it is sent; one whose process dies in flight stays open and counts at what was reserved, so
the cost limit holds across kills too.

What was paid for is remembered, failures too (a reply cut at the cap). A refusal that cost nothing is not: the server's
settings may have changed. It is kept apart, for runs that ask only some kinds of failures again (`forget`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from longalign.base.files import fingerprint
from longalign.errors import RunError
from longalign.llm.base import Failure, Outcome, Reply, Request
from longalign.llm.batch_store import SCHEMA as BATCHES
from longalign.llm.batch_store import BatchStore
from longalign.llm.budget import LATER, MIN_BYTES, Budget
from longalign.llm.group_commit import GroupCommit, Statement
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
CREATE TABLE IF NOT EXISTS failures (key TEXT PRIMARY KEY, kind TEXT NOT NULL, outcome TEXT NOT NULL);
"""
LOSE = "INSERT INTO lost_calls (key, cost_usd, reason) VALUES (?, ?, ?)"
EVERY_KIND = "failed"
SHOWN_CHARS = 2000
MARKER_BYTES = 32


def request_key(model: str, request: Request) -> str:
    """Content key of one call."""
    content = dict(vars(request))  # plain values, so nothing is copied: documents are long
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


class Ended(NamedTuple):
    """The outcome of a call: of reservation `call`, by its content key."""

    call: int
    key: str
    request: Request
    outcome: Outcome
    cost_usd: float | None


class Ledger:
    """The file. Safe for many threads of one process; another process may read it at any time (WAL)."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """`durable` syncs every reply to disk (paid calls); otherwise a power cut may lose the last few."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = threading.RLock()  # of reading
        self._replays_failures = False
        try:
            writer = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=60)
            writer.execute("PRAGMA journal_mode=WAL")
            writer.executescript(SCHEMA + BATCHES)
            # Calls that a dead process left open were sent and may be billed: counted, but asked again.
            writer.execute(
                "INSERT INTO lost_calls (key, cost_usd, reason) SELECT key, worst_usd, 'process ended' FROM open_calls"
            )
            writer.execute("DELETE FROM open_calls")
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=60)
            (replies,) = self._db.execute("SELECT COALESCE(SUM(cost_usd), 0.0) FROM replies").fetchone()
            (lost,) = self._db.execute("SELECT COALESCE(SUM(cost_usd), 0.0) FROM lost_calls").fetchone()
            ratio, prompts = self._db.execute(
                "SELECT COALESCE(MAX(1.0 * prompt_tokens / prompt_bytes), 0.0), COUNT(*) FROM replies "
                "WHERE prompt_tokens > 0 AND prompt_bytes >= ?",
                (MIN_BYTES,),
            ).fetchone()
        except sqlite3.DatabaseError as error:
            raise RunError(f"{path}: not a ledger ({error}); move the file away and run again") from None
        self._writer = writer
        self._commits = GroupCommit(writer, durable=durable)
        self.budget = Budget(float(replies) + float(lost), float(ratio), int(prompts))
        self.batches = BatchStore(self._commits, self._select, self.budget)

    def close(self) -> None:
        """Close the file; the WAL is folded in."""
        with self._lock:
            self._db.close()
            self._writer.close()

    def _select(self, query: str, values: Sequence[object]) -> list[Any]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def find(self, key: str) -> Outcome | None:
        """The remembered outcome of a call, marked as cached and free of charge."""
        with self._lock:
            row = self._db.execute("SELECT kind, outcome FROM replies WHERE key = ?", (key,)).fetchone()
            if row is None and self._replays_failures:
                row = self._db.execute("SELECT kind, outcome FROM failures WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        fields = cast(dict[str, Any], json.loads(row[1])) | {"cached": True}
        if row[0] != "reply":
            return Failure(**fields)
        # Earlier versions took thoughts and control tokens for a part of the reply, and remembered it so.
        return Reply(**fields) if "reasoning" in fields else read_again(Reply(**fields))

    def failed(self, kinds: Collection[str]) -> int:
        """How many calls ended in failures of these kinds; `failed` means all."""
        where, names = _kinds(kinds)
        with self._lock:
            counts = [
                self._db.execute(f"SELECT COUNT(*) FROM {table} WHERE {where}", names).fetchone()[0]
                for table in ("replies", "failures")
            ]
        return sum(counts)

    def forget(self, kinds: Collection[str]) -> None:
        """Ask failures of these kinds again (`failed`: all), and no others. What they cost stays spent."""
        where, names = _kinds(kinds)
        self._commits.write(
            (
                "INSERT INTO lost_calls (key, cost_usd, reason) "
                f"SELECT key, cost_usd, 'asked again: ' || kind FROM replies WHERE {where}",
                names,
            ),
            (f"DELETE FROM replies WHERE {where}", names),
            (f"DELETE FROM failures WHERE {where}", names),
        )
        self._replays_failures = True

    def begin(
        self,
        key: str,
        worst_usd: float,
        max_cost_usd: float | None,
        *,
        likely_usd: float | None = None,
        patient: bool = True,
    ) -> int | None:
        """Write a call down before it is sent; None when it could pass the cap. See `Budget.reserve`."""
        likely = worst_usd if likely_usd is None else likely_usd
        reserved = self.budget.reserve(worst_usd, likely, max_cost_usd, patient=patient)
        if reserved is None or reserved[0] == LATER:
            return None if reserved is None else LATER
        call, amount = reserved
        insert = "INSERT INTO open_calls (id, key, worst_usd, pid) VALUES (?, ?, ?, ?)"
        self._commits.write((insert, (call, key, amount, os.getpid())), sync=False)
        return call

    def end(self, call: int, key: str, request: Request, outcome: Outcome, cost_usd: float | None) -> None:
        """Record the outcome of a call, and drop its reservation, in one transaction."""
        self.end_together([Ended(call, key, request, outcome, cost_usd)])

    def end_together(self, calls: Sequence[Ended], *also: Statement) -> None:
        """`end` for several calls, and what else belongs to it, in one transaction."""
        self._commits.write(*(statement for ended in calls for statement in self._ending(ended)), *also)
        for ended in calls:
            self.budget.learn(prompt_bytes(ended.request), ended.outcome.prompt_tokens)
            self.budget.settle(ended.call, ended.cost_usd or 0.0)

    def _ending(self, ended: Ended) -> list[Statement]:
        call, key, request, outcome, cost_usd = ended
        size = prompt_bytes(request)
        kind = "reply" if isinstance(outcome, Reply) else outcome.kind
        told = json.dumps(vars(outcome), ensure_ascii=False)
        writes: list[Statement] = [("DELETE FROM open_calls WHERE id = ?", (call,))]
        if isinstance(outcome, Reply) or remembered(outcome):
            insert = (
                "INSERT OR REPLACE INTO replies "
                "(key, model, kind, outcome, ends_with, prompt_bytes, prompt_tokens, completion_tokens, cost_usd) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            )
            shown = request.messages[-1]["content"][-SHOWN_CHARS:]
            tokens = (outcome.prompt_tokens, outcome.completion_tokens)
            writes.append((insert, (key, outcome.model, kind, told, shown, size, *tokens, cost_usd)))
            writes.append(("DELETE FROM failures WHERE key = ?", (key,)))
        else:
            writes.append((LOSE, (key, cost_usd, f"{outcome.kind}: {outcome.message}")))
            writes.append(("INSERT OR REPLACE INTO failures (key, kind, outcome) VALUES (?, ?, ?)", (key, kind, told)))
        return writes

    def release(self, calls: Iterable[int]) -> None:
        """Drop reservations of calls that were refused as a whole, and so not billed."""
        for call in calls:
            self._commits.write(("DELETE FROM open_calls WHERE id = ?", (call,)))
            self.budget.settle(call, 0.0)

    def lose(self, calls: Iterable[int]) -> None:
        """Count calls at what was reserved that were given up and may have been sent."""
        for call in calls:
            self._commits.write(
                (
                    "INSERT INTO lost_calls (key, cost_usd, reason) "
                    "SELECT key, worst_usd, 'endpoint given up' FROM open_calls WHERE id = ?",
                    (call,),
                ),
                ("DELETE FROM open_calls WHERE id = ?", (call,)),
            )
            self.budget.settle(call, self.budget.reserved(call))

    def spent_usd(self) -> float:
        """Money spent by all runs on this ledger, lost calls at their worst case included."""
        return self.budget.spent_usd

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


def remembered(failure: Failure) -> bool:
    """Whether a failure stands for good: the same request would end alike, and it was paid for."""
    return failure.final and (failure.maybe_billed or failure.completion_tokens is not None)


def failed_calls(path: Path, kinds: Collection[str]) -> int:
    """How many calls of a ledger, where there is one, ended in failures of these kinds."""
    if not kinds or not path.exists():
        return 0
    ledger = Ledger(path)
    try:
        return ledger.failed(kinds)
    finally:
        ledger.close()


def _kinds(kinds: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """A condition on column `kind`, and its values."""
    if EVERY_KIND in kinds:
        return "kind != 'reply'", ()
    return f"kind IN ({', '.join('?' * len(kinds))})", tuple(sorted(kinds))
