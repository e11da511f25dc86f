"""Which candidate is worked on next, and in which order outcomes count. Pure: no model, file or clock.

Work is continuous: a candidate may start as soon as it is certain to be needed, that is, while acceptable outcomes and
running candidates together are fewer than the rows wanted. So no candidate is worked on that the rows do not need,
slots stay full until fewer rows are missing than there are slots, and one slow call holds up nobody.

Outcomes count strictly in the drawn order: the rows are the first acceptable candidates of each group's queue. A group
whose queue ends leaves its missing rows to the other. Both follow from the outcomes alone, never from their timing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

C = TypeVar("C")


@dataclass(frozen=True)
class Started(Generic[C]):
    """A candidate that is worked on: its group, its place in that group's queue, and what it is."""

    group: str
    number: int
    item: C


@dataclass
class _Group(Generic[C]):
    queue: Iterator[C]
    quota: int
    ahead: list[C] = field(default_factory=list)
    """The next candidate, read one early: whether a queue has ended must not depend on who asked."""
    started: int = 0
    running: int = 0
    acceptable: int = 0
    decided: int = 0
    accepted: int = 0
    waiting: dict[int, tuple[Started[C], bool | None]] = field(default_factory=dict)
    """Outcomes that came before their turn."""

    def __post_init__(self) -> None:
        self.read()

    def read(self) -> None:
        self.ahead = [item for _, item in zip(range(1), self.queue, strict=False)]

    @property
    def possible(self) -> int:
        """Rows that the started candidates give at most."""
        return self.acceptable + self.running


class Flow(Generic[C]):
    """`start` candidates, `finish` them in any order, `ready` gives them back in the drawn order to `decide`.

    `first`: so many candidates may be started before one was acceptable, so that a model which never gives anything
    usable costs no more than these; they are decided before the next one starts.
    """

    def __init__(self, queues: Mapping[str, Iterator[C]], quotas: Mapping[str, int], *, first: int | None = None):
        self._groups = {name: _Group(queues[name], quota) for name, quota in quotas.items()}
        self._first = first
        self._stopped = False

    @property
    def running(self) -> int:
        """Candidates that are worked on now."""
        return sum(group.running for group in self._groups.values())

    @property
    def acceptable(self) -> int:
        """Candidates that give a row as far as is known, decided or not."""
        return sum(group.acceptable for group in self._groups.values())

    @property
    def finished(self) -> int:
        """Candidates with an outcome, decided or not."""
        return sum(group.started - group.running for group in self._groups.values())

    def stop(self) -> None:
        """Start nothing more; what is running still counts."""
        self._stopped = True

    def start(self) -> Started[C] | None:
        """The next candidate to work on, or None while none is certain to be needed."""
        if self._stopped or self._on_trial():
            return None
        wanted = [name for name in self._groups if self._groups[name].ahead and self._room(name) > 0]
        if not wanted:
            return None
        name = min(wanted, key=lambda name: self._groups[name].started / max(self._groups[name].quota, 1))
        group = self._groups[name]
        found = Started(name, group.started, group.ahead[0])
        group.started += 1
        group.running += 1
        group.read()
        return found

    def finish(self, candidate: Started[C], acceptable: bool | None) -> None:
        """Enter an outcome. None: there is none, because the money ran out; it counts as not tried."""
        group = self._groups[candidate.group]
        group.running -= 1
        group.acceptable += acceptable is True
        group.waiting[candidate.number] = (candidate, acceptable)

    def ready(self) -> Iterator[Started[C]]:
        """Candidates whose turn it is; each must be decided before the next is taken."""
        while (group := self._next_to_decide()) is not None and group.decided in group.waiting:
            candidate, acceptable = group.waiting[group.decided]
            if acceptable is None:
                del group.waiting[group.decided]
                group.decided += 1
                continue
            yield candidate

    def decide(self, candidate: Started[C], accepted: bool) -> None:
        """Count a ready candidate. One that is acceptable by itself may be refused, as a repeat of another."""
        group = self._groups[candidate.group]
        _, acceptable = group.waiting.pop(candidate.number)
        group.decided += 1
        group.accepted += accepted
        group.acceptable -= bool(acceptable) and not accepted

    def _on_trial(self) -> bool:
        if self._first is None or self.acceptable:
            return False
        groups = self._groups.values()
        return sum(group.started for group in groups) >= self._first > sum(group.decided for group in groups)

    def _room(self, name: str) -> int:
        """Candidates of a group that are certain to be needed and not started."""
        group = self._groups[name]
        left_over = sum(max(0, o.quota - o.possible) for o in self._others(group) if not o.ahead)
        return group.quota + left_over - group.possible

    def _next_to_decide(self) -> _Group[C] | None:
        open_groups = [
            group
            for group in self._groups.values()
            if not self._ended(group)
            and group.accepted
            < group.quota + sum(max(0, o.quota - o.accepted) for o in self._others(group) if self._ended(o))
        ]
        return min(open_groups, key=lambda group: group.decided / max(group.quota, 1), default=None)

    def _ended(self, group: _Group[C]) -> bool:
        return group.decided == group.started and (self._stopped or not group.ahead)

    def _others(self, group: _Group[C]) -> list[_Group[C]]:
        return [other for other in self._groups.values() if other is not group]
