"""`report_to`: what Trainer's own integrations receive, read back from TensorBoard's event files."""

from __future__ import annotations

import struct
from collections import defaultdict
from pathlib import Path

import pytest

from longalign.base.files import read_jsonl
from longalign.config import TrainSettings
from longalign.train.sft import train
from tests.makers.models import make_model
from tests.makers.rows import make_rows


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Every scalar of the event files below `folder`, by tag and step."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = defaultdict(dict)
    for path in folder.rglob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:  # a record: length, its checksum, the event, its checksum
            (size,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + size])
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found[value.tag][event.step] = value.simple_value
            data = data[16 + size :]
    return found


def test_tensorboard_gets_every_figure_of_metrics_jsonl(tmp_path: Path) -> None:
    model, rows = make_model(tmp_path / "model"), make_rows(tmp_path / "rows.jsonl")
    settings = TrainSettings(
        model=str(model), data={str(rows): None}, eval_data=(str(rows),), window=96, sequences_per_step=8,
        learning_rate=5e-3, num_train_epochs=1, eval_steps=2, report_to=("tensorboard",),
    )  # fmt: skip
    train(settings, tmp_path / "out")
    shown = scalars(tmp_path / "out")
    logged = read_jsonl(tmp_path / "out" / "metrics.jsonl")
    steps = [row for row in logged if "loss" in row]
    assert len(steps) == 3
    for row in steps:
        figures = {name: row[name] for name in ("loss", "grad_norm", "learning_rate", "target_tokens_per_s")}
        figures |= {f"loss_length/{band}": loss for band, loss in row["loss_by_length"].items()}
        figures |= {f"loss_source/{source}": loss for source, loss in row["loss_by_source"].items()}
        for name, value in figures.items():
            assert shown[f"train/{name}"][row["step"]] == pytest.approx(value, rel=1e-6), name
    for row in (row for row in logged if "heldout" in row):
        for kind, losses in row["heldout"].items():
            for name, loss in losses.items():
                assert shown[f"train/heldout_{kind}/{name}"][row["step"]] == pytest.approx(loss, rel=1e-6)
