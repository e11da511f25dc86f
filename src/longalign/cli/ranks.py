"""The end of a command that failed, where torchrun has started it in several processes.

All of them meet the same mistake in the settings, and one line is enough. torchrun ends the others as soon as one has
ended, so the first rank speaks and ends first, and the others give it time. What only another rank meets is told by
that rank, a little later. torchrun's own report, with a traceback of its own, follows: no process that it started
can prevent that.
"""

from __future__ import annotations

import os
import sys
import time
from typing import NoReturn

FIRST_SPEAKS_WITHIN_S = 10.0
BETWEEN_RANKS_S = 0.5


def fail(message: str) -> NoReturn:
    """Say what is wrong, if there is anything to say, and end with exit code 2."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0":
        time.sleep(FIRST_SPEAKS_WITHIN_S + BETWEEN_RANKS_S * int(os.environ.get("LOCAL_RANK", "0")))
    if message:
        print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)
