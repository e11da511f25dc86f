"""A process that reads files for another one, under limits of time and memory: `python -m longalign.data.worker`.

It takes a JSON line per file from stdin and answers on stdout with a line per document, then one that says how it
ended. A file that takes too long ends the process by SIGALRM, also inside native code and when nobody is left to wait.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

from longalign.data.readers import read_file
from longalign.errors import DataError, UnreadableError, first_line

OUT_OF_MEMORY = "out of memory"
READY = "ready"


def main() -> None:
    """Read files until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    for stream in (1, 2):  # what libraries print is no answer, and of no use to anybody
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked; it ends this one
    _answer(answers, READY)
    for line in sys.stdin:
        request = json.loads(line)
        os.chdir(request["folder"])
        _limit_memory(int(request["memory_bytes"]))
        signal.setitimer(signal.ITIMER_REAL, request["timeout_s"])
        try:
            for raw in read_file(Path(request["file"]), request["text_field"]):
                _answer(answers, [raw.text, raw.title, raw.source, raw.line, raw.problem])
            end = {"kind": "read", "message": ""}
        except UnreadableError as error:
            end = {"kind": "unreadable", "message": str(error)}
        except DataError as error:
            end = {"kind": "data", "message": str(error)}
        except MemoryError:
            end = {"kind": OUT_OF_MEMORY, "message": ""}
        except Exception as error:  # a parser's mistake over one file
            end = {"kind": "unreadable", "message": reader_failed(error)}
        signal.setitimer(signal.ITIMER_REAL, 0)
        _limit_memory(None)
        _answer(answers, end)
        if end["kind"] == OUT_OF_MEMORY:
            return


def reader_failed(error: Exception) -> str:
    """The reason of a file that a reader makes a mistake about."""
    return f"the reader failed ({type(error).__name__}: {first_line(error)[:200]})"


def _answer(answers: TextIO, value: object) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _limit_memory(limit_bytes: int | None) -> None:
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard if limit_bytes is None else limit_bytes, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind
    except (ImportError, ValueError, OSError):
        pass  # systems without such a limit


if __name__ == "__main__":
    main()
