"""One transaction for the writes of many threads: each waits until its own are on disk, and they share the sync.

A sync takes milliseconds, and 64 threads that sync one after the other wait for each other. Here the first one
to come writes for all that wait; no thread of its own is needed.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence

Statement = tuple[str, Sequence[object]]


class _Ticket:
    def __init__(self, statements: Sequence[Statement]) -> None:
        self.statements = statements
        self.done = False
        self.error: Exception | None = None


class GroupCommit:
    """Writes to one connection, which nobody else writes to. A caller's statements succeed or fail together."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._waiting: list[_Ticket] = []
        self._queue = threading.Lock()
        self._writing = threading.Lock()

    def write(self, *statements: Statement) -> None:
        """Returns when the statements are committed; raises what SQLite raises."""
        ticket = _Ticket(statements)
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
