"""What was submitted to a batch API, durable: a killed run finds its batches again, and pays for none twice.

Everything is in the ledger's file, so a call leaves here in the transaction that records its outcome. A batch is

    planned    its calls are written down; nothing was sent that costs money
    creating   its input file lies at the provider, and the call that creates the batch may have been sent
    submitted  its id is known

and is deleted when its output lies here. Each call holds its worst case against the cap on money until it is recorded.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from longalign.llm.budget import Budget
from longalign.llm.group_commit import GroupCommit, Statement

SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (
  mark TEXT PRIMARY KEY, model TEXT NOT NULL, url TEXT NOT NULL, state TEXT NOT NULL, file_id TEXT, batch_id TEXT,
  requests INTEGER NOT NULL, changed REAL NOT NULL);
CREATE TABLE IF NOT EXISTS batch_calls (
  key TEXT PRIMARY KEY, mark TEXT NOT NULL, worst_usd REAL NOT NULL, line TEXT);
DELETE FROM batch_calls WHERE mark IN (SELECT mark FROM batches WHERE state = 'planned');
DELETE FROM batches WHERE state = 'planned';
"""
State = Literal["planned", "creating", "submitted"]


@dataclass(frozen=True)
class Submitted:
    """A batch that has not come back. `mark` names it in its metadata; `changed_s`: when its state last changed."""

    mark: str
    model: str
    url: str
    state: State
    file_id: str | None
    batch_id: str | None
    requests: int
    changed_s: float


@dataclass
class _Call:
    number: int
    """Of its reservation."""
    mark: str
    arrived: bool


class BatchStore:
    """The tables of one ledger. Used by one thread at a time."""

    def __init__(
        self, commits: GroupCommit, select: Callable[[str, Sequence[object]], list[Any]], budget: Budget
    ) -> None:
        self._commits = commits
        self._select = select
        self._budget = budget
        self._calls = {
            key: _Call(budget.hold(usd), mark, bool(arrived))
            for key, mark, usd, arrived in select(
                "SELECT key, mark, worst_usd, line IS NOT NULL FROM batch_calls ORDER BY rowid", ()
            )
        }

    def batches(self, model: str) -> list[Submitted]:
        """Batches of a model that have not come back, oldest first."""
        names = "mark, model, url, state, file_id, batch_id, requests, changed"
        rows = self._select(f"SELECT {names} FROM batches WHERE model = ? ORDER BY rowid", (model,))
        return [Submitted(*row) for row in rows]

    def known(self, key: str) -> bool:
        """Whether a call is in a batch, back or not."""
        return key in self._calls

    def number(self, key: str) -> int:
        """Of the reservation of a known call."""
        return self._calls[key].number

    def line(self, key: str) -> str | None:
        """The output line of a call that came back."""
        call = self._calls.get(key)
        if call is None or not call.arrived:
            return None
        ((line,),) = self._select("SELECT line FROM batch_calls WHERE key = ?", (key,))
        return str(line)

    @property
    def arrived(self) -> list[str]:
        """Calls that came back and are not recorded."""
        return [key for key, call in self._calls.items() if call.arrived]

    def keys(self, mark: str) -> list[str]:
        """The calls of a batch."""
        return [key for key, call in self._calls.items() if call.mark == mark]

    def plan(self, model: str, url: str, calls: Mapping[str, tuple[int, float]]) -> str:
        """Write a batch down before it is sent; returns its mark. `calls`: key -> (number, dollars) reserved."""
        mark = uuid.uuid4().hex
        insert = "INSERT INTO batch_calls (key, mark, worst_usd) VALUES (?, ?, ?)"
        self._commits.write(
            (
                "INSERT INTO batches (mark, model, url, state, requests, changed) VALUES (?, ?, ?, 'planned', ?, ?)",
                (mark, model, url, len(calls), time.time()),
            ),
            *((insert, (key, mark, usd)) for key, (_, usd) in calls.items()),
        )
        self._calls |= {key: _Call(number, mark, False) for key, (number, _) in calls.items()}
        return mark

    def creating(self, mark: str, file_id: str) -> None:
        """The next thing sent creates the batch."""
        self._commits.write(
            (
                "UPDATE batches SET state = 'creating', file_id = ?, changed = ? WHERE mark = ?",
                (file_id, time.time(), mark),
            )
        )

    def submitted(self, mark: str, batch_id: str) -> None:
        """The batch is there."""
        self._commits.write(
            (
                "UPDATE batches SET state = 'submitted', batch_id = ?, changed = ? WHERE mark = ?",
                (batch_id, time.time(), mark),
            )
        )

    def collect(self, mark: str, lines: Mapping[str, tuple[str, float | None]]) -> list[str]:
        """A batch has ended with these lines: key -> (line, what it costs as far as that is known).

        Calls without a line are forgotten, at no cost; returns their keys. What came back is held at its cost until it
        is asked for and recorded, so a build with other settings counts it rightly too.
        """
        keys = self.keys(mark)
        came = {key: lines[key] for key in keys if key in lines}
        unanswered = [key for key in keys if key not in lines]
        update = "UPDATE batch_calls SET line = ?, worst_usd = COALESCE(?, worst_usd) WHERE key = ?"
        self._commits.write(
            *((update, (line, usd, key)) for key, (line, usd) in came.items()),
            *(self.forget(key) for key in unanswered),
            ("DELETE FROM batches WHERE mark = ?", (mark,)),
        )
        for key, (_, usd) in came.items():
            call = self._calls[key]
            call.arrived = True
            if usd is not None:
                self._budget.settle(call.number, 0.0)
                call.number = self._budget.hold(usd)
        for key in unanswered:
            self.settle(key, 0.0)
        return unanswered

    def lose(self, mark: str) -> None:
        """A batch is gone that may have been paid: its calls count at what was held for them."""
        keys = self.keys(mark)
        self._commits.write(
            (
                "INSERT INTO lost_calls (key, cost_usd, reason) "
                "SELECT key, worst_usd, 'batch unknown to the provider' FROM batch_calls WHERE mark = ?",
                (mark,),
            ),
            ("DELETE FROM batch_calls WHERE mark = ?", (mark,)),
            ("DELETE FROM batches WHERE mark = ?", (mark,)),
        )
        for key in keys:
            self.settle(key, self._budget.reserved(self.number(key)))

    def forget(self, key: str) -> Statement:
        """What drops a call, for the transaction that records its outcome; then call `settle`, or `left`."""
        return ("DELETE FROM batch_calls WHERE key = ?", (key,))

    def drop(self, keys: Sequence[str]) -> None:
        """Forget calls that came back without an answer and cost nothing."""
        self._commits.write(*map(self.forget, keys))
        for key in keys:
            self.settle(key, 0.0)

    def settle(self, key: str, cost_usd: float) -> None:
        """A call is no longer here, and cost so much."""
        self._budget.settle(self.left(key), cost_usd)

    def left(self, key: str) -> int:
        """A call is no longer here; returns the number of its reservation, which somebody else settles."""
        return self._calls.pop(key).number
