"""Stage `extend`: stretch RoPE, then continue pretraining on long text (paper section 4.1).

RoPE is set in the config before the model is built. Documents are cut into windows and packed with boundaries, every
token is a target and counts the same. Perplexity by position is measured on documents that are held out: for the model
as it came, with stretched RoPE before training, and after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from longalign.base.files import atomic_write_json, fingerprint
from longalign.base.progress import say
from longalign.base.sources import Named, model_dir
from longalign.base.threads import choose_threads
from longalign.base.tokenizers import open_tokenizer
from longalign.config import ExtendSettings
from longalign.data.mixed_windows import tokenize_in_windows
from longalign.data.store import TokenStore
from longalign.data.to_tokens import DocumentEncoder, MixedEncoder, RowEncoder, tokenize_texts
from longalign.errors import ConfigError
from longalign.plan.text import plan_summary
from longalign.train.announce import announce
from longalign.train.parallel import ranks
from longalign.train.parallel.ulysses import SequenceParallel
from longalign.train.perplexity import perplexity_by_position, position_table
from longalign.train.prepare import build_model, check_model, model_to_measure
from longalign.train.run_plan import fit
from longalign.train.stage import finish_model, input_fingerprints, open_shared_stage, with_model
from longalign.train.task_curve import TaskCurve, deciding_inputs

VERSION = 1
POSITION_WINDOWS = 16
"""Windows of held-out text that perplexity by position is measured on."""


def extend(settings: ExtendSettings, out: Path, *, plan_only: bool = False, restart: bool = False) -> dict[str, Any]:
    """Extend `settings.model` to `settings.window` tokens with the documents of `settings.text`; result: `out/final`.

    The same call again continues or returns at once; `restart` allows checkpoints of other settings to be set aside.
    With `plan_only` nothing is trained and the plan's report comes back. Under torchrun every rank calls it.
    """
    if not settings.text and not settings.data:
        raise ConfigError("extend needs text to train on: --text FILE_OR_FOLDER")
    adapter = [settings.lora_adapter] if settings.lora_adapter else []
    read = (*settings.text, *settings.data, *adapter, *deciding_inputs(settings))
    names = [name for name in read if not Named(name).bundled]
    inputs = partial(input_fingerprints, settings.model, names)
    with open_shared_stage(
        out, "extend", settings=settings, inputs=inputs, version=VERSION, restart=restart, plan_only=plan_only
    ) as stage:
        if stage.finished is not None and stage.complete:
            return with_model(stage.finished, out)
        if not plan_only:
            choose_threads(out)
        source = model_dir(settings.model)
        tokenizer = open_tokenizer(source, ends_text=True)
        check_model(settings, stage.placement, source, tokenizer, needs_rope=True, plan_only=plan_only)
        curve = TaskCurve.of(settings, source, stage.folder)
        store, heldout = _tokens(settings, stage.folder, source, stage.inputs, kept=out)
        report = announce(settings, stage.placement, store, source, stage.folder)
        if plan_only:
            return plan_summary(report)
        curves = _Curves(out / "positions.json", heldout, settings, stage.placement.group)
        if settings.init == "weights" and not curves.has("original"):
            curves.measure("original", model_to_measure(stage.placement, settings.model))
        model, built = build_model(settings, stage.placement, settings.model, rope=settings.rope, init=settings.init)
        trainer, summary = fit(
            model, store, settings, stage.placement, out, label="extend", heldout_store=heldout,
            curve=curve, before=partial(curves.measure, "stretched"),
        )  # fmt: skip
        curves.measure("extended", trainer.model)
        if ranks.is_first() and curves.values:
            say("perplexity by position, held-out documents\n" + position_table(curves.values))
        return finish_model(
            stage,
            trainer.model,
            tokenizer,
            store,
            summary | {"model": asdict(built), "perplexity_by_position": curves.values},
            settings=settings,
            what=f"extended to {settings.window} tokens",
            rope=settings.rope,
        )


class _Curves:
    """Perplexity by position under a name, kept in a file so that a resumed run does not measure again."""

    def __init__(
        self, path: Path, heldout: TokenStore | None, settings: ExtendSettings, group: SequenceParallel | None
    ) -> None:
        self.path, self.heldout, self.settings, self.group = path, heldout, settings, group
        kept = json.loads(path.read_text(encoding="utf-8")) if ranks.is_first() and path.exists() else {}
        self.values: dict[str, dict[str, float | None]] = ranks.broadcast(kept)

    def has(self, name: str) -> bool:
        return name in self.values or self.heldout is None

    def measure(self, name: str, model: nn.Module) -> None:
        """Every rank computes, since sharded weights need all of them and ranks may share a window; the first keeps."""
        if self.heldout is None or name in self.values:
            return
        most = POSITION_WINDOWS * self.settings.window
        self.values[name] = perplexity_by_position(model, self.heldout, most_tokens=most, sequence_parallel=self.group)
        if ranks.is_first():
            atomic_write_json(self.path, self.values)


def _tokens(
    settings: ExtendSettings, out: Path, tokenizer: str, inputs: Mapping[str, str], *, kept: Path
) -> tuple[TokenStore, TokenStore | None]:
    """Training and held-out sequences; the first rank makes them in `out` unless they are in `kept` already, the others
    read them."""
    encoder = MixedEncoder(DocumentEncoder(tokenizer, settings.window), RowEncoder(tokenizer, settings.window))
    places = [(folder / "tokens", folder / "heldout-tokens") for folder in (kept, out)]
    if settings.windows:
        make = partial(tokenize_in_windows, shares=settings.windows)
    else:
        make = partial(tokenize_texts)
    read = (settings.text, settings.data, places[-1], encoder)
    mix: Any = {"mix_by": settings.mix_by, "mix_total": settings.mix_total}
    again = {"seed": settings.seed, "stamp": fingerprint(inputs), "kept": places[0]}
    folders = ranks.on_first_rank(partial(make, *read, **again, **mix))
    return TokenStore.open(folders[0]), TokenStore.open(folders[1]) if folders[1].exists() else None
