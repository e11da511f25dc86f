"""Stage `train`: supervised fine-tuning on packed conversations, each counting once (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from longalign.base.files import fingerprint
from longalign.base.sources import model_dir
from longalign.base.threads import choose_threads
from longalign.base.tokenizers import open_tokenizer
from longalign.config import TrainSettings
from longalign.data.store import TokenStore
from longalign.data.to_tokens import RowEncoder, tokenize_rows
from longalign.plan.text import plan_summary
from longalign.train.announce import announce
from longalign.train.parallel import ranks
from longalign.train.prepare import build_model, check_model
from longalign.train.run_plan import fit
from longalign.train.stage import finish_model, input_fingerprints, open_shared_stage, tokenizer_folder, with_model

VERSION = 1


def train(settings: TrainSettings, out: Path, *, plan_only: bool = False, restart: bool = False) -> dict[str, Any]:
    """Fine-tune `settings.model` on `settings.data`; the result is the Hugging Face directory `out/final`.

    Also writes tokens/, plan.npz, metrics.jsonl and checkpoints/. The same call again continues or returns at once;
    `restart` allows checkpoints of other settings to be set aside. Under torchrun every rank calls it. Returns the
    summary that is in stage.json; with `plan_only` nothing is trained and the plan's report comes back.
    """
    files = [*settings.data, *settings.eval_data, *([settings.chat_template] if settings.chat_template else [])]
    inputs = partial(input_fingerprints, settings.model, files)
    with open_shared_stage(out, "train", settings=settings, inputs=inputs, version=VERSION, restart=restart) as stage:
        if stage.finished is not None:
            return with_model(stage.finished, out)
        choose_threads(out)
        source = model_dir(settings.model)
        reader = tokenizer_folder(source, settings, out / "tokenizer")
        tokenizer = open_tokenizer(reader, ends_text=True)
        check_model(settings, stage.placement, source, tokenizer, plan_only=plan_only)
        store, heldout = _tokens(settings, out, reader, stage.inputs)
        report = announce(settings, stage.placement, store, source, out)
        if plan_only:
            return plan_summary(report)
        model, built = build_model(settings, stage.placement, settings.model)
        trainer, summary = fit(model, store, settings, stage.placement, out, label="train", heldout_store=heldout)
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

    ranks.on_first_rank(make)
    heldout = TokenStore.open(out / "heldout-tokens") if settings.eval_data else None
    return TokenStore.open(out / "tokens"), heldout


def turn_ends(store: TokenStore, tokenizer: Any, sample: int = 200) -> tuple[int, ...]:
    """Control tokens that end assistant turns in the data: generation must stop at them."""
    special = set(tokenizer.all_special_ids)
    special |= set(tokenizer.added_tokens_decoder)  # an end of turn need not be called special
    found: set[int] = set()
    for index in range(min(len(store), sample)):
        sequence = store[index]
        targets = np.flatnonzero(sequence.target_T)
        if len(targets):
            found.add(int(sequence.ids_T[targets[-1]]))
    return tuple(sorted(found & special))
