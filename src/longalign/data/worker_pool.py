"""Files read in worker processes, several at once, given back in order: a bad file costs that file only.

A file that never ends, fills the memory or crashes its parser ends its worker, and the next file gets a new one.
Workers stay for later calls; each starts when it is first needed.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import longalign
from longalign.data.readers import RawDocument, needs_parser, read_file
from longalign.data.worker import OUT_OF_MEMORY, reader_failed
from longalign.errors import DataError, LongAlignError, RunError, UnreadableError

SMALL_FILE_BYTES = 32 << 20
"""Plain text up to this size is read in this process: nothing in it can hang or crash."""
AHEAD = 4
"""Files looked ahead for each worker."""


@dataclass(frozen=True)
class FileLimits:
    """What one file may take. `workers`: how many files are read at once; default: one a core, at most 8."""

    timeout_s: float = 60.0
    memory_gib: float = 4.0
    workers: int | None = None

    @property
    def at_once(self) -> int:
        """Workers that are used."""
        return self.workers or min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


class Worker:
    """One process, and what it is asked. Any thread may kill it."""

    def __init__(self) -> None:
        source = str(Path(longalign.__file__).parents[1])
        path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "longalign.data.worker"],  # -P: no module of the folder we are in
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._stdin = cast(IO[bytes], self.process.stdin)
        self._stdout = cast(IO[bytes], self.process.stdout)
        if not self._stdout.readline():  # else it is ready: its start is not the file's time
            self.close()
            raise RunError(
                f"no process that reads files can be started; `{sys.executable} -P -m longalign.data.worker` says why"
            )
        self.usable = True
        """Whether it can take another file: it has answered about the last one to the end."""

    def read(self, file: Path, text_field: str | None, limits: FileLimits) -> list[RawDocument]:
        """The documents of a file. Raises `UnreadableError` for one that breaks a limit, and as `read_file` does."""
        request = {
            "file": str(file),
            "folder": os.getcwd(),
            "text_field": text_field,
            "timeout_s": limits.timeout_s,
            "memory_bytes": limits.memory_gib * 2**30,
        }
        found: list[RawDocument] = []
        self.usable = False
        try:
            self._stdin.write(json.dumps(request).encode() + b"\n")
            self._stdin.flush()
            while line := self._stdout.readline():
                answer = json.loads(line)
                if isinstance(answer, list):
                    found.append(RawDocument(*answer))
                    continue
                kind, message = answer["kind"], answer["message"]
                self.usable = kind != OUT_OF_MEMORY
                if kind == "data":
                    raise DataError(message)
                if kind == OUT_OF_MEMORY:
                    raise UnreadableError(f"needed more than {limits.memory_gib:g} GiB (file_memory_gib)")
                if kind == "unreadable":
                    raise UnreadableError(message)
                return found
        except (BrokenPipeError, ValueError):  # it died, maybe in the middle of a line
            pass
        raise UnreadableError(_why(self.process.wait(), limits))

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for stream in (self._stdin, self._stdout):
            with suppress(OSError):
                stream.close()


def _why(code: int, limits: FileLimits) -> str:
    if code == -signal.SIGALRM:
        return f"took longer than {limits.timeout_s:g} s (file_timeout_s)"
    return f"the reader crashed (signal {-code})" if code < 0 else f"the reader crashed (exit code {code})"


_idle: list[Worker] = []
_lock = threading.Lock()


@atexit.register
def close_workers() -> None:
    """End the workers that wait for files."""
    with _lock:
        while _idle:
            _idle.pop().close()


class _Reading:
    """The workers of one folder's reading."""

    def __init__(self, text_field: str | None, limits: FileLimits) -> None:
        self.text_field = text_field
        self.limits = limits
        self.busy: set[Worker] = set()
        self.stopped = False

    def read(self, file: Path) -> list[RawDocument]:
        """In a thread: take a worker, or start one, and wait for its answer."""
        with _lock:
            worker = _idle.pop() if _idle else None
        if worker is not None and worker.process.poll() is not None:  # somebody ended it meanwhile
            worker.close()
            worker = None
        worker = worker or Worker()
        with _lock:
            self.busy.add(worker)
            if self.stopped:
                worker.process.kill()
        try:
            return worker.read(file, self.text_field, self.limits)
        finally:
            with _lock:
                self.busy.discard(worker)
                keep = worker.usable and not self.stopped
                if keep:
                    _idle.append(worker)
            if not keep:
                worker.close()

    def stop(self) -> None:
        """Nobody waits for the answers any more."""
        with _lock:
            self.stopped = True
            for worker in self.busy:
                worker.process.kill()


def read_files(
    files: Iterable[Path], text_field: str | None = None, limits: FileLimits | None = None
) -> Iterator[tuple[Path, Iterator[RawDocument]]]:
    """(file, its documents) in the order of `files`. Taking the documents raises what `read_file` would.

    Rows and small plain texts are read here, one after another; formats with a parser in workers, ahead.
    """
    limits = limits or FileLimits()
    reading = _Reading(text_field, limits)
    waiting: deque[tuple[Path, Future[list[RawDocument]] | None]] = deque()
    pool = ThreadPoolExecutor(limits.at_once, thread_name_prefix="read")
    try:
        for file in files:
            waiting.append((file, pool.submit(reading.read, file) if _apart(file) else None))
            if len(waiting) > AHEAD * limits.at_once:
                yield _given(*waiting.popleft(), text_field)
        while waiting:
            yield _given(*waiting.popleft(), text_field)
    finally:
        reading.stop()
        pool.shutdown(cancel_futures=True)


def _given(
    file: Path, future: Future[list[RawDocument]] | None, text_field: str | None
) -> tuple[Path, Iterator[RawDocument]]:
    return file, _read_here(file, text_field) if future is None else _documents(future)


def _documents(future: Future[list[RawDocument]]) -> Iterator[RawDocument]:
    yield from future.result()


def _read_here(file: Path, text_field: str | None) -> Iterator[RawDocument]:
    try:
        yield from read_file(file, text_field)
    except LongAlignError:
        raise
    except Exception as error:  # a reader's mistake over one file, as in a worker
        raise UnreadableError(reader_failed(error)) from error


def _apart(file: Path) -> bool:
    try:
        return needs_parser(file, SMALL_FILE_BYTES)
    except OSError:
        return False  # reading it will say why
