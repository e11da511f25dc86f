"""One transaction for the writes of many threads: each waits until its own are on disk, and they share the sync.

A sync takes milliseconds, and 64 threads that sync one after the other wait for each other. Here the first one
to come writes for all that wait; no thread of its own is needed.

What only has to outlive this process (`sync=False`) is not waited for: a killed process loses none of it, a power cut
at most what came after the last sync.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence

Statement = tuple[str, Sequence[object]]


class _Ticket:
    def __init__(self, statements: Sequence[Statement], sync: bool) -> None:
        self.statements = statements
        self.sync = sync
        self.done = False
        self.error: Exception | None = None


class GroupCommit:
    """Writes to one connection, which nobody else writes to. A caller's statements succeed or fail together."""

    def __init__(self, database: sqlite3.Connection, *, durable: bool = True) -> None:
        """`durable`: commits are on disk when `write` returns; the database is in WAL mode."""
        self._database = database
        self._durable = durable
        self._syncs: bool | None = None
        self._waiting: list[_Ticket] = []
        self._queue = threading.Lock()
        self._writing = threading.Lock()

    def write(self, *statements: Statement, sync: bool = True) -> None:
        """Returns when the statements are committed; raises what SQLite raises."""
        ticket = _Ticket(statements, sync and self._durable)
        with self._queue:
            self._waiting.append(ticket)
        with self._writing:
            if not ticket.done:
                with self._queue:
                    batch, self._waiting = self._waiting, []
                self._commit(batch)
        if ticket.error is not None:
            raise ticket.error

    def _commit(self, batch: Sequence[_Ticket]) -> None:
        sync = any(ticket.sync for ticket in batch)
        if sync != self._syncs:
            self._database.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
            self._syncs = sync
        try:
            self._run([statement for ticket in batch for statement in ticket.statements])
        except sqlite3.Error:  # whose fault is it? Each again, alone
            for ticket in batch:
                try:
                    self._run(ticket.statements)
                except sqlite3.Error as error:
                    ticket.error = error
        for ticket in batch:
            ticket.done = True

    def _run(self, statements: Sequence[Statement]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for text, values in statements:
                self._database.execute(text, values)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
