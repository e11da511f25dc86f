"""A mix of files from its settings to the model card and the page; the same for one process, two, and after a kill."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longalign.base.files import read_jsonl
from longalign.base.stage import read_manifest
from longalign.config import PlanSettings, TrainSettings
from longalign.core.step_plan import load_plan
from longalign.data.store import TokenStore
from longalign.plan.report import plan
from longalign.report.page import report
from longalign.train.sft import train
from tests.makers.models import make_model
from tests.makers.rows import make_rows


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    made = {"chats": make_rows(folder / "chats.jsonl", 20, 30), "long": make_rows(folder / "long.jsonl", 9)}
    return {name: str(path) for name, path in made.items()} | {"model": str(make_model(folder / "model"))}


def asked(files: dict[str, str], **more: Any) -> TrainSettings:
    mix = {files["chats"]: {"weight": 0.3}, files["long"]: {"weight": 0.7, "epochs": 2}}
    values = {"model": files["model"], "data": mix, "mix_by": "tokens", "window": 96, "sequences_per_step": 8}
    return TrainSettings(**(values | {"learning_rate": 5e-3, "num_train_epochs": 1, "save_steps": 1} | more))


def test_the_mix_is_printed_planned_kept_and_shown(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sft"
    summary = train(asked(files, max_steps=1), out)
    chats, long = summary["data"]["mix"]
    assert (chats["file"], long["file"], long["held"]) == (files["chats"], files["long"], 9)
    assert chats["token_share"] == pytest.approx(0.3, abs=0.05)
    printed = capsys.readouterr().err
    assert f"mix: {files['chats']}: {chats['distinct']} of 20 rows, {chats['sequences']} sequences (" in printed
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest["summary"]["data"]["mix"] == [chats, long]
    card = (out / "final" / "README.md").read_text(encoding="utf-8")
    assert f"| chats.jsonl | {chats['distinct']} of 20 | 1 | {chats['sequences']} (" in card
    assert str(tmp_path) not in card
    report([out], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h3>Mix: " in page
    assert f"{long['tokens']:,} ({long['token_share']:.1%})" in page
    shared = {name: getattr(asked(files), name) for name in ("data", "mix_by", "window", "sequences_per_step")}
    planned = plan(
        PlanSettings(**shared, tokenizer=files["model"], model_shape=files["model"], machine="cpu")
    ).as_dict()
    assert planned["mix"] == [chats, long], "`longalign plan` draws the very rows"
    assert planned["sampling_hash"] == load_plan(out / "plan.npz").sampling_hash


def test_a_change_of_the_mix_is_a_change_of_the_result_and_other_words_for_it_are_not(
    files: dict[str, str], tmp_path: Path
) -> None:
    def stamp(**data: Any) -> str:
        from longalign.base.stage import open_stage

        wanted = asked(files, data=data, mix_by="rows")
        with open_stage(tmp_path, "train", settings=wanted, inputs={}, version=1) as stage:
            return str(stage.manifest["fingerprint"])

    plain = stamp(**{files["chats"]: 5, files["long"]: None})
    assert stamp(**{files["chats"]: {"rows": 5}, files["long"]: {"epochs": 1}}) == plain
    assert not (tmp_path / "superseded").exists()
    assert stamp(**{files["chats"]: {"rows": 5}, files["long"]: {"epochs": 2}}) != plain


@pytest.mark.slow
def test_two_processes_and_a_resumed_run_train_on_the_same_mix(files: dict[str, str], tmp_path: Path) -> None:
    train(asked(files), tmp_path / "one")
    (given := tmp_path / "settings.json").write_text(json.dumps(asked(files).model_dump(mode="json")))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "longalign"]
    command = [*start, "train", "--settings", str(given), "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    stores = [TokenStore.open(tmp_path / name / "tokens") for name in ("one", "two")]
    assert stores[0].fingerprint == stores[1].fingerprint
    losses = [[row["loss"] for row in read_jsonl(tmp_path / name / "metrics.jsonl")] for name in ("one", "two")]
    assert len(losses[0]) >= 2
    assert losses[1] == pytest.approx(losses[0], rel=2e-5)
    resumed = shutil.copytree(tmp_path / "one", tmp_path / "resumed")
    shutil.rmtree(resumed / "final")
    shutil.rmtree(resumed / "tokens")
    for later in sorted((resumed / "checkpoints").iterdir())[1:]:
        shutil.rmtree(later)
    manifest = json.loads((resumed / "stage.json").read_text())
    (resumed / "stage.json").write_text(json.dumps(manifest | {"status": "running"}))
    train(asked(files), resumed)
    weights = [(tmp_path / name / "final" / "model.safetensors").read_bytes() for name in ("one", "resumed")]
    assert weights[0] == weights[1]
