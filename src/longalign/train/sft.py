"""Stage `train`: supervised fine-tuning on packed conversations, each counting once (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from longalign.builtin import model_dir
from longalign.config import LoopSettings, TrainSettings
from longalign.data.rows_to_tokens import RowEncoder, tokenize_rows
from longalign.data.store import TokenStore
from longalign.errors import DataError
from longalign.progress import say
from longalign.run import fingerprint
from longalign.train import ranks
from longalign.train.build import build_model, check_model
from longalign.train.finish import finish_model, with_model
from longalign.train.fit import fit
from longalign.train.model import load_tokenizer
from longalign.train.preview import headline, preview
from longalign.train.shared_stage import input_fingerprints, open_shared_stage
from longalign.train.threads import choose_threads
from longalign.train.tokenizer import tokenizer_folder

VERSION = 1


def train(settings: TrainSettings, out: Path, *, plan_only: bool = False) -> dict[str, Any]:
    """Fine-tune `settings.model` on `settings.data`; the result is the Hugging Face directory `out/final`.

    Also writes tokens/, plan.npz, metrics.jsonl and checkpoints/. The same call again continues or returns at once.
    Under torchrun every rank calls it. Returns the summary that is in stage.json; with `plan_only` nothing is trained
    and the plan's report comes back.
    """
    files = [*settings.data, *settings.eval_data, *([settings.chat_template] if settings.chat_template else [])]
    inputs = partial(input_fingerprints, settings.model, files)
    with open_shared_stage(out, "train", settings=settings, inputs=inputs, version=VERSION) as stage:
        if stage.finished is not None:
            return with_model(stage.finished, out)
        choose_threads(out)
        source = model_dir(settings.model)
        reader = tokenizer_folder(source, settings, out / "tokenizer")
        tokenizer = load_tokenizer(reader)
        check_model(settings, source, tokenizer, plan_only=plan_only)
        store, heldout = _tokens(settings, out, reader, stage.inputs)
        report = announce(settings, store, source, out)
        if plan_only:
            return report
        model, built = build_model(settings, settings.model)
        trainer, summary = fit(model, store, settings, out, label="train", heldout_store=heldout)
        return finish_model(
            stage,
            trainer.model,
            tokenizer,
            store,
            summary | {"model": asdict(built)},
            settings=settings,
            what="fine-tuned with LongAlign",
            end_ids=turn_ends(store, tokenizer),
        )


def _tokens(
    settings: TrainSettings, out: Path, tokenizer: str, inputs: Mapping[str, str]
) -> tuple[TokenStore, TokenStore | None]:
    """Training and held-out sequences; the first rank makes them, the others read them."""
    encoder = RowEncoder(tokenizer, settings.window, settings.overlong, settings.train_on, settings.thinking)
    stamp = fingerprint(inputs)

    def make() -> None:
        tokenize_rows(out / "tokens", settings.data, encoder, seed=settings.seed, stamp=stamp)
        if settings.eval_data:
            files = dict.fromkeys(settings.eval_data)
            tokenize_rows(out / "heldout-tokens", files, encoder, seed=settings.seed, stamp=stamp)

    ranks.by_first(make)
    heldout = TokenStore.open(out / "heldout-tokens") if settings.eval_data else None
    return TokenStore.open(out / "tokens"), heldout


def announce(settings: LoopSettings, store: TokenStore, source: str, out: Path) -> dict[str, Any]:
    """Say what will be trained on and how; writes plan/ (report and picture of packs). Every rank calls it."""
    if len(store) == 0:
        raise DataError(f"no sequence with targets is left to train on ({store.counts}); look at the rows' lengths")
    report = preview(settings, source, store.folder, out / "plan" if ranks.is_first() else None)
    if ranks.is_first():
        say(describe(store))
        say(headline(report))
    return report


def describe(store: TokenStore) -> str:
    """What is about to be trained on, in one line."""
    lengths = store.lengths
    notes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in store.counts.items() if name != "rows")
    return (
        f"data: {len(store)} sequences, {int(lengths.sum()):,} tokens ({int(store.target_counts.sum()):,} targets), "
        f"median length {int(np.median(lengths)) if len(store) else 0}, longest {int(lengths.max(initial=0))}"
        + (f"; {notes}" if notes else "")
    )


def turn_ends(store: TokenStore, tokenizer: Any, sample: int = 200) -> tuple[int, ...]:
    """Control tokens that end assistant turns in the data: generation must stop at them."""
    special = set(tokenizer.all_special_ids)
    special |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    found: set[int] = set()
    for index in range(min(len(store), sample)):
        sequence = store[index]
        targets = np.flatnonzero(sequence.target_T)
        if len(targets):
            found.add(int(sequence.ids_T[targets[-1]]))
    return tuple(sorted(found & special))
