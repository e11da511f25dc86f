"""One stage run by several ranks: the first rank holds the folder's lock and manifest, the others follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longalign.builtin import is_bundled_model, model_dir
from longalign.config import LoopSettings
from longalign.run import StageRun, fingerprint_path, open_stage
from longalign.train import ranks
from longalign.train.parallel import parallel_mode


@dataclass
class SharedStage:
    """What every rank knows of the stage, `inputs` by content; only the first rank has `run`."""

    folder: Path
    finished: dict[str, Any] | None
    inputs: Mapping[str, str]
    run: StageRun | None

    def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        if self.run:
            self.run.finish(summary)
        ranks.barrier()
        return dict(summary)


@contextmanager
def open_shared_stage(
    out: Path, name: str, *, settings: LoopSettings, inputs: Callable[[], Mapping[str, str]], version: int
) -> Iterator[SharedStage]:
    """`open_stage` on the first rank; every rank learns whether the stage is done. `inputs` is called on the first
    rank only: one process reads a corpus to hash it, not eight."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    ranks.start(alone=parallel_mode(settings) == "fsdp2")
    found = ranks.by_first(inputs)
    if not ranks.is_first():
        yield SharedStage(out, ranks.share(None), found, None)
        return
    with open_stage(out, name, settings=settings, inputs=found, version=version) as run:
        finished = run.summary if run.done else None
        ranks.share(finished)
        yield SharedStage(out, finished, found, run)


def input_fingerprints(model: str, names: Iterable[str]) -> dict[str, str]:
    """`input_fingerprint` of a stage's model and of everything else it reads."""
    return {"model": input_fingerprint(model), **{name: input_fingerprint(name) for name in names}}


def input_fingerprint(name: str) -> str:
    """Content of a model directory, bundled model or file; a hub id or set of bundled rows stands for itself."""
    path = Path(model_dir(name)) if is_bundled_model(name) else Path(name)
    return fingerprint_path(path) if path.exists() else f"named:{name}"
