"""Every error a user can cause or meet, as one tree.

A message says what was wrong, where (file, line, field, value) and how to fix it, in one or two lines.
The command line prints it without a traceback and exits with code 2.
"""


class LongAlignError(Exception):
    """Base of all errors that are the user's to fix."""


class ConfigError(LongAlignError):
    """A setting is unknown, malformed or contradicts another."""


class DataError(LongAlignError):
    """A document, row or token store cannot be used as it is."""


class ModelError(LongAlignError):
    """A model or tokenizer cannot be loaded, or asks for what we cannot compute exactly."""


class PlanError(LongAlignError):
    """No step plan satisfies the lengths, window, ranks and batch that were asked for."""


class EndpointError(LongAlignError):
    """A language-model endpoint cannot be reached, refuses us, or answers in no known form.

    `maybe_billed`: calls under way may be charged though nothing came back.
    """

    def __init__(self, message: str, *, maybe_billed: bool = False) -> None:
        super().__init__(message)
        self.maybe_billed = maybe_billed


class RunError(LongAlignError):
    """A run folder is locked, damaged or belongs to something else."""
