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
from longalign.train.task_curve import TaskCurve, deciding_inputs

VERSION = 1


def train(settings: TrainSettings, out: Path, *, plan_only: bool = False, restart: bool = False) -> dict[str, Any]:
    """Fine-tune `settings.model` on `settings.data`; the result is the Hugging Face directory `out/final`.

    Also writes tokens/, plan.npz, metrics.jsonl and checkpoints/. The same call again continues or returns at once;
    `restart` allows checkpoints of other settings to be set aside. Under torchrun every rank calls it. Returns the
    summary that is in stage.json; with `plan_only` nothing is trained and the plan's report comes back.
    """
    others = [name for name in (settings.chat_template, settings.lora_adapter) if name]
    files = [*settings.data, *settings.eval_data, *others, *deciding_inputs(settings)]
    inputs = partial(input_fingerprints, settings.model, files)
    with open_shared_stage(
        out, "train", settings=settings, inputs=inputs, version=VERSION, restart=restart, plan_only=plan_only
    ) as stage:
        if stage.finished is not None and stage.complete:
            return with_model(stage.finished, out)
        if not plan_only:
            choose_threads(out)
        source = model_dir(settings.model)
        reader = tokenizer_folder(source, settings, stage.folder / "tokenizer")
        tokenizer = open_tokenizer(reader, ends_text=True)
        check_model(settings, stage.placement, source, tokenizer, plan_only=plan_only)
        curve = TaskCurve.of(settings, reader, stage.folder)
        store, heldout = _tokens(settings, stage.folder, reader, stage.inputs, kept=out / "tokens")
        report = announce(settings, stage.placement, store, source, stage.folder)
        if plan_only:
            return plan_summary(report)
        model, built = build_model(settings, stage.placement, settings.model)
        trainer, summary = fit(
            model, store, settings, stage.placement, out, label="train", heldout_store=heldout, curve=curve
        )
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
    settings: TrainSettings, out: Path, tokenizer: str, inputs: Mapping[str, str], *, kept: Path
) -> tuple[TokenStore, TokenStore | None]:
    """Training and held-out sequences; the first rank makes them, the others read them. `kept`: where those to train on
    may be already."""
    encoder = RowEncoder(tokenizer, settings.window, settings.overlong, settings.train_on, settings.thinking)
    stamp = fingerprint(inputs)

    def make() -> Path:
        mix: Any = {"mix_by": settings.mix_by, "mix_total": settings.mix_total}
        store = tokenize_rows(out / "tokens", settings.data, encoder, seed=settings.seed, stamp=stamp, kept=kept, **mix)
        if settings.eval_data:
            files = dict.fromkeys(settings.eval_data)
            tokenize_rows(out / "heldout-tokens", files, encoder, seed=settings.seed, stamp=stamp)
        return store.folder

    folder = ranks.on_first_rank(make)
    heldout = TokenStore.open(out / "heldout-tokens") if settings.eval_data else None
    return TokenStore.open(folder), heldout


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
