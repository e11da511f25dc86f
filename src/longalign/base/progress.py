"""Progress of long work on stderr: share done, rate, time left; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 10.0


def say(text: str) -> None:
    """Print one line to stderr; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """`with Progress("needle", total=400, unit="question") as bar: bar.advance(8)`.

    `done` counts units that an earlier attempt finished: they show as done and do not enter the rate.
    """

    def __init__(self, label: str, *, total: int, unit: str, done: int = 0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.first = self.done = done
        self.start = self.last_line = time.monotonic()
        self.bar: Bar | None = None
        if sys.stderr.isatty():
            self.bar = Bar(
                TextColumn("{task.description:<22}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(label, total=total, completed=done, rate="", note="")

    def __enter__(self) -> Progress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
        elif self.done > self.first:
            say(f"{self._line('', left=False)} in {time.monotonic() - self.start:.0f} s")

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count finished units; `note` is shown beside the rate."""
        self.done += count
        if self.bar:
            self.bar.update(self.task, completed=self.done, rate=self._rate_text(), note=note)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            say(self._line(note))

    def _rate(self) -> float:
        return (self.done - self.first) / max(time.monotonic() - self.start, 1e-9)

    def _rate_text(self) -> str:
        rate = self._rate()
        if rate == 0:
            return ""
        return f"{rate:.1f} {self.unit}s/s" if rate >= 1 else f"{1 / rate:.1f} s/{self.unit}"

    def _line(self, note: str, *, left: bool = True) -> str:
        line = f"{self.label}: {self.done}/{self.total} ({self.done / max(self.total, 1):.0%})"
        if self.done > self.first:
            line += f", {self._rate_text()}"
            line += f", {(self.total - self.done) / self._rate():.0f} s left" if left else ""
        return f"{line} {note}".rstrip()
