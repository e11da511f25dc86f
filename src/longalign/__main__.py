"""`python -m longalign`, which torchrun needs."""

from longalign.cli import main

if __name__ == "__main__":  # processes that libraries spawn import this file, too
    main()
