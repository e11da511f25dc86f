"""Claim: best-fit decreasing packs a long-tailed mix to >= 0.998 of capacity; 1M sequences in <= 1 s, 10M in <= 12 s.

    python -m benchmarks.packing                     next-fit, ours, and whole step plans, on 10k, 1M and 10M lengths
    python -m benchmarks.packing --trl               also TRL's bfd on 10k (needs `trl` and `datasets`)

One core (OMP_NUM_THREADS=1). The mix: one row in eight even over 8k-64k tokens, the rest chats below 8k (median 900).
TRL packs token columns, not lengths, inside batches of 1,000 rows, so its time contains moving tokens; its efficiency
does not depend on the number of rows. All its rows here fit the window: nothing is cut.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from tests.core.mixes import longalign_mix

from benchmarks.measure import timed, write_result
from longalign.core.batching import plan_steps
from longalign.core.packing import best_fit_decreasing, fewest_packs, next_fit
from longalign.core.strategies import STRATEGIES

WINDOW = 65536


def ours(lengths: np.ndarray, repeats: int) -> list[dict[str, Any]]:
    bound = fewest_packs(lengths, WINDOW)
    rows = []
    for name, algorithm in (("best_fit_decreasing", best_fit_decreasing), ("next_fit (the paper's)", next_fit)):
        packs, seconds = timed(lambda algorithm=algorithm: algorithm(lengths, WINDOW), repeats)
        rows.append(result(name, lengths, len(packs), bound) | seconds)
    for strategy in STRATEGIES:
        plan, seconds = timed(
            lambda strategy=strategy: hashed(
                plan_steps(lengths, window=WINDOW, ranks=8, sequences_per_step=96, strategy=strategy)
            ),
            repeats,
        )
        rows.append(
            {"what": f"plan_steps {strategy}, with its hash", "sequences": len(lengths), "steps": len(plan)} | seconds
        )
    return rows


def hashed(plan: Any) -> Any:
    assert plan.hash
    return plan


def trl_bfd(lengths: np.ndarray) -> dict[str, Any]:
    """TRL's public pack_dataset on rows of these lengths (int32 ids, as a tokenised data set has them)."""
    import pyarrow as pa
    import trl
    from datasets import Dataset, disable_caching, disable_progress_bars
    from trl.data_utils import pack_dataset

    disable_caching()
    disable_progress_bars()
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    ids = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], dtype=np.int32)))
    dataset = Dataset(pa.table({"input_ids": ids}), fingerprint="lengths")
    unhashed = {"new_fingerprint": "packed"}  # no hashing of data and functions, which is not what is measured
    packed, seconds = timed(lambda: pack_dataset(dataset, WINDOW, strategy="bfd", map_kwargs=unhashed), 1)
    kept = sum(sum(row) for row in packed["seq_lengths"])
    assert kept == int(lengths.sum())
    return result(f"TRL {trl.__version__} bfd", lengths, len(packed), fewest_packs(lengths, WINDOW)) | seconds


def result(what: str, lengths: np.ndarray, packs: int, bound: int) -> dict[str, Any]:
    efficiency = float(lengths.sum() / (packs * WINDOW))
    return {"what": what, "sequences": len(lengths), "packs": packs, "packs_lower_bound": bound,
            "efficiency": round(efficiency, 6)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trl", action="store_true", help="also TRL's bfd on 10,000 lengths")
    arguments = parser.parse_args()
    rows = []
    for size in arguments.sizes:
        lengths = longalign_mix(size)
        rows += ours(lengths, arguments.repeats)
        if arguments.trl and size <= 10_000:
            rows.append(trl_bfd(lengths))
    for row in rows:
        print(row)
    write_result(
        "packing", "efficiency >= 0.998; 1M sequences planned in <= 1 s, 10M in <= 12 s, one core", rows, window=WINDOW
    )


if __name__ == "__main__":
    main()
