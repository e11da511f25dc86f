"""The command line. `main` is what `longalign` and `python -m longalign` run."""

from longalign.cli.verbs import main

__all__ = ["main"]
