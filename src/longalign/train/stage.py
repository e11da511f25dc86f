"""What the stages `extend` and `train` share: a stage folder for several ranks, its inputs, and its end.

`open_shared_stage` lets the first rank hold lock and manifest while the others follow. `finish_model` exports the model
with its card and writes the summary. `tokenizer_folder` gives the tokenizer that conversations are read with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from longalign.base.files import atomic_path, atomic_write_text
from longalign.base.progress import say
from longalign.base.sources import Named, model_dir, not_there
from longalign.base.stage import StageRun, lock, open_stage, place_to_plan
from longalign.base.tokenizers import save_with_template
from longalign.config import ExtendSettings, LoopSettings, RopeSettings, TrainSettings
from longalign.data.mix import as_dicts, shares_of
from longalign.data.store import TokenStore
from longalign.errors import DataError, RunError
from longalign.train import checkpoint
from longalign.train.check_export import check_export, plain_attention, sample_of, trained_nll
from longalign.train.export import export
from longalign.train.model_card import model_card
from longalign.train.parallel import ranks
from longalign.train.parallel.placement import Placement, join


@dataclass
class SharedStage:
    """A stage as every rank sees it, with `inputs` by content; only the first rank has `run`."""

    folder: Path
    settings: LoopSettings
    placement: Placement
    finished: dict[str, Any] | None
    inputs: Mapping[str, str]
    run: StageRun | None

    @property
    def complete(self) -> bool:
        """Whether the stage is done, and `final` as the settings want it. Another `export_dtype` needs no training: the
        last checkpoint is exported again. Raises `RunError` where it is gone."""
        if self.finished is None:
            return False
        asked = self.settings.export_dtype
        if asked is None or self.finished.get("export", {}).get("dtype") == asked:
            return True
        newest = ranks.on_first_rank(lambda: checkpoint.newest_good(self.folder / "checkpoints"))
        if newest is None or checkpoint.step_of(newest) != self.finished["steps"]:
            raise RunError(
                f"export_dtype: {self.folder} is finished and its last checkpoint is gone, so that `final` cannot be "
                f"written again in {asked}; leave export_dtype out, or choose another --out"
            )
        return False

    def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        if self.run:
            self.run.manifest["settings"] = self.settings.model_dump(mode="json")  # another `export_dtype`, if any
            self.run.finish(summary)
        ranks.barrier()
        return dict(summary)


@contextmanager
def open_shared_stage(
    out: Path,
    name: str,
    *,
    settings: LoopSettings,
    inputs: Callable[[], Mapping[str, str]],
    version: int,
    restart: bool = False,
    plan_only: bool = False,
) -> Iterator[SharedStage]:
    """`open_stage` on the first rank; every rank learns its placement and whether the stage is done. `inputs` is called
    on the first rank only: one process reads a corpus to hash it, not eight.

    With `plan_only` nothing is opened and the stage has a place to plan in (`place_to_plan`) as its folder.
    """
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    placement = join(settings)
    found = ranks.on_first_rank(inputs)
    runs: list[StageRun] = []
    with ExitStack() as held:
        if plan_only:

            def prepare() -> Path:
                folder = held.enter_context(place_to_plan(out))
                held.enter_context(lock(folder))
                return folder

            folder = ranks.on_first_rank(prepare)
            yield SharedStage(folder, settings, placement, None, found, None)
            ranks.barrier()  # the first rank deletes what others may still read
            return

        def hold() -> dict[str, Any] | None:
            stage = open_stage(out, name, settings=settings, inputs=found, version=version, restart=restart)
            runs.append(held.enter_context(stage))
            return runs[0].summary if runs[0].done else None

        finished = ranks.on_first_rank(hold)
        yield SharedStage(out, settings, placement, finished, found, runs[0] if runs else None)


def input_fingerprints(model: str, names: Iterable[str]) -> dict[str, str]:
    """`input_fingerprint` of a stage's model and of everything else it reads.

    Raises `ModelError` for a model and `DataError` for files that are not there, while the folder is as it was.
    """
    model_dir(model)
    names = list(names)
    if gone := [name for name in names if not Named(name).here]:
        raise DataError(f"{gone[0]}: {not_there(gone[0])}")
    return {"model": input_fingerprint(model), **{name: input_fingerprint(name) for name in names}}


def input_fingerprint(name: str) -> str:
    """Content of a model directory, bundled model or file; a hub id or set of bundled rows stands for itself."""
    return Named(name).fingerprint()


def finish_model(
    stage: SharedStage,
    model: nn.Module,
    tokenizer: Any,
    store: TokenStore,
    summary: Mapping[str, Any],
    *,
    settings: ExtendSettings | TrainSettings,
    what: str,
    rope: RopeSettings | None = None,
    end_ids: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Export `model` to `final` (see `export`), check that it is the model that trained, and close the stage.

    The card says `what` it is. Every rank calls it. Returns the summary with what was trained on and where the model
    lies. Raises `RunError` when `final` computes something else; it stays, with a card that says so.
    """
    sample = sample_of(store)
    trained_N = trained_nll(model, sample, stage.placement)
    weights = export(model, tokenizer, stage.folder, settings=settings, base=settings.model, rope=rope, end_ids=end_ids)
    final, in_4_bits = stage.folder / "final", settings.quantize is not None
    check = ranks.on_first_rank(
        lambda: check_export(
            final, weights, sample, trained_N, stage.placement, in_4_bits=in_4_bits, attention=plain_attention(model)
        )
    )
    summary = {
        **summary,
        "data": {"counts": store.counts, "tokens": int(store.lengths.sum()), "mix": as_dicts(shares_of(store))},
        "threads": torch.get_num_threads(),
        "export": check.as_dict(),
    }

    def conclude() -> None:
        atomic_write_text(final / "README.md", model_card(what, settings, summary, sources=source_counts(store)))
        say(check.line())
        if not check.holds:
            raise RunError(check.fault(final))

    ranks.on_first_rank(conclude)
    return with_model(stage.finish(summary), stage.folder)


def with_model(summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The summary with the place of the model. It is not kept in the folder, which may be moved."""
    return {**summary, "final": str(folder / "final")}


def source_counts(store: TokenStore) -> dict[str, int]:
    """Sequences by source, most first."""
    counts = np.bincount(store.source_N, minlength=len(store.sources))
    return {store.sources[number]: int(counts[number]) for number in np.argsort(-counts, kind="stable")}


def tokenizer_folder(source: str, settings: TrainSettings, folder: Path) -> str:
    """Where it is: `source`, or a copy of it in `folder` that has the settings' chat template. Every rank calls it."""
    if settings.chat_template is None:
        return source
    if ranks.is_first():
        with atomic_path(folder) as temporary:
            save_with_template(source, settings.chat_template, temporary)
    ranks.barrier()
    return str(folder)
