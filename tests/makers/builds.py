"""`longalign data build` as a process of its own, which tests kill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence


def build_command(options: Mapping[str, object], *flags: str) -> list[str]:
    """The command with these options; `flags` stand behind them."""
    flat = [str(part) for pair in options.items() for part in pair]
    return [sys.executable, "-m", "longalign", "data", "build", *flat, *flags]


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """The process, in a group of its own."""
    environment = {**os.environ, "OPENAI_API_KEY": "none", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
