"""Padded, sorted, packed and balanced training on the same rows, timed one after the other."""

from __future__ import annotations

from itertools import accumulate, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

from longalign.base.files import atomic_write_json, fingerprint_path, random_for, write_jsonl
from longalign.base.sources import model_dir
from longalign.base.threads import choose_threads
from longalign.config import Strategy, TrainSettings
from longalign.config.mix import counted
from longalign.core.strategies import STRATEGIES
from longalign.data.source import read_rows
from longalign.data.store import TokenStore
from longalign.data.to_tokens import RowEncoder, tokenize_rows
from longalign.train.parallel.placement import Placement
from longalign.train.prepare import build_model
from longalign.train.run_plan import fit
from longalign.train.stage import input_fingerprint, open_shared_stage, tokenizer_folder

VERSION = 1
PADDED_ROWS = 8


def measure(settings: TrainSettings, out: Path, *, rows: int) -> dict[str, Any]:
    """One epoch over `rows` rows with each strategy, from the same weights; writes `out/results.json`.

    Each figure covers forward, backward and update. The rows are drawn by seed from all rows of `settings.data`.
    """

    def inputs() -> dict[str, str]:
        return {name: input_fingerprint(name) for name in (settings.model, *settings.data)} | {"rows": str(rows)}

    with open_shared_stage(out, "throughput", settings=settings, inputs=inputs, version=VERSION) as stage:
        if stage.finished is not None:
            return stage.finished
        choose_threads(out)
        source = tokenizer_folder(model_dir(settings.model), settings, out / "tokenizer")
        sample = out / "rows.jsonl"
        if not sample.exists():
            write_jsonl(sample, _draw(settings, rows))
        encoder = RowEncoder(source, settings.window, settings.overlong, settings.train_on, settings.thinking)
        store = tokenize_rows(out / "tokens", {str(sample): None}, encoder, seed=0, stamp=fingerprint_path(sample))
        results = {
            strategy: _time(settings, stage.placement, strategy, store, out / strategy) for strategy in STRATEGIES
        }
        atomic_write_json(out / "results.json", results)
        return stage.finish(results)


def _draw(settings: TrainSettings, rows: int) -> list[dict[str, Any]]:
    """`rows` rows (or all, where there are fewer), files in proportion to the numbers of rows that the arm takes of
    them, or to all of a file that it takes no number of."""
    orders = []
    for name, wanted in settings.data.items():
        found = sum(1 for _ in read_rows(name))
        order = random_for(settings.seed, "throughput", Path(name).name).permutation(found)
        orders.append(order[: min(counted(wanted) or found, found)])
    share = min(rows / max(sum(map(len, orders)), 1), 1.0)
    ends = [round(end * share) for end in accumulate(map(len, orders), initial=0)]  # whole numbers that sum to `rows`
    drawn = []
    for name, order, (start, end) in zip(settings.data, orders, pairwise(ends), strict=True):
        place_of = {number: place for place, number in enumerate(order[: end - start].tolist())}
        chosen = ((place_of[number], row) for number, row in enumerate(read_rows(name)) if number in place_of)
        drawn += [row for _, row in sorted(chosen, key=itemgetter(0))]
    return drawn


def _time(
    settings: TrainSettings, placement: Placement, strategy: Strategy, store: TokenStore, folder: Path
) -> dict[str, Any]:
    once = settings.model_copy(
        update={
            "strategy": strategy,
            "num_train_epochs": 1,
            "max_steps": None,
            "rows_per_microbatch": max(settings.rows_per_microbatch, PADDED_ROWS),  # one row alone has no padding
        }
    )
    model, _ = build_model(once, placement, settings.model)
    _, summary = fit(model, store, once, placement, folder, label=f"time {strategy}")
    return {
        "rows": len(store),
        "tokens": int(store.lengths.sum()),
        "wall_s": summary["train_s"],
        "tokens_per_s": summary["tokens_per_s"],
        "target_tokens_per_s": summary["target_tokens_per_s"],
    }
