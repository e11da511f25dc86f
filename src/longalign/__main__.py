"""`python -m longalign`, which torchrun needs."""

from longalign.cli import main

main()
