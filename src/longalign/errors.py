"""Every error a user can cause or meet, as one tree.

    LongAlignError            base of all: `except LongAlignError` catches what the user can fix
    ├── ConfigError           a setting is unknown, malformed or contradicts another
    ├── DataError             a document, row or token store cannot be used as it is
    │   └── UnreadableError   a file that holds no text we can read
    ├── ModelError            a model or tokenizer cannot be loaded or trained exactly
    ├── PlanError             no step plan satisfies lengths, window, ranks and batch
    ├── EndpointError         a language-model endpoint cannot be reached or refuses us
    └── RunError              a run folder is locked, damaged or belongs to something else

A message says what was wrong, where (file, line, field, value) and how to fix it, in one or two lines, with the nearest
known name where a name is unknown (`nearest`). The command line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class LongAlignError(Exception):
    """Base of all errors that the user can fix."""

    printed_elsewhere = False
    """Whether another rank prints it, so that a user reads it once."""


class ConfigError(LongAlignError):
    """A setting is unknown, malformed or contradicts another."""


class DataError(LongAlignError):
    """A document, row or token store cannot be used as it is."""


class UnreadableError(DataError):
    """A file that holds no text we can read."""


class ModelError(LongAlignError):
    """A model or tokenizer cannot be loaded, or needs something that we cannot compute exactly."""


class PlanError(LongAlignError):
    """No step plan satisfies the given lengths, window, ranks and batch."""


class EndpointError(LongAlignError):
    """A language-model endpoint cannot be reached, refuses us, or answers in no known form.

    `maybe_billed`: calls under way may be charged though nothing came back.
    """

    def __init__(self, message: str, *, maybe_billed: bool = False) -> None:
        super().__init__(message)
        self.maybe_billed = maybe_billed


class RunError(LongAlignError):
    """A run folder is locked, damaged or belongs to something else."""


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def nearest(name: str, valid: Sequence[str], parent: str = "") -> str:
    """` (did you mean X?)` for the closest valid name, written below `parent`, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean `{parent}{close[0]}`?)" if close else ""
