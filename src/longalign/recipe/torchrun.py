"""torchrun, as `longalign run` starts it: where a stage has said what is wrong (exit code 2), no traceback follows."""

from __future__ import annotations

import sys

TOLD = 2

if __name__ == "__main__":
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    try:
        main()
    except ChildFailedError as error:
        if error.get_first_failure()[1].exitcode != TOLD:
            raise
        sys.exit(TOLD)
