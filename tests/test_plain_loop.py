"""`examples/plain_loop.py` and the trainer do the same: equal losses at every step, equal weights at the end."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from longalign import TrainSettings, train_model
from longalign.base.files import read_jsonl
from longalign.cli.verbs import spread_lists
from longalign.train.checkpoint import load_weights, newest_good
from tests.test_docs import commands, settings_of, verb_of
from tests.train.test_stages import make_model, make_rows
from tests.train.tiny import DoubleThroughout

EXAMPLE = Path(__file__).parents[1] / "examples" / "plain_loop.py"
LONGEST_FILE = 200


def plain_loop() -> Any:
    spec = importlib.util.spec_from_file_location("plain_loop", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model stored in float64, so that its export rounds nothing."""
    folder = tmp_path_factory.mktemp("inputs")
    model = make_model(folder / "model")
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).save_pretrained(model)
    return model, make_rows(folder / "rows.jsonl", 48)


def test_the_loop_and_the_trainer_end_with_the_same_weights(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    model, rows = inputs
    losses: list[float] = []
    with DoubleThroughout():
        mine = plain_loop().train(
            str(model), rows, tmp_path / "plain", window=96, sequences_per_step=8, epochs=2, learning_rate=5e-3,
            warmup_ratio=0.2, seed=3, dtype=torch.float64, on_step=lambda step, loss: losses.append(loss),
        )  # fmt: skip
        settings = TrainSettings(
            model=str(model), data={str(rows): None}, window=96, sequences_per_step=8, num_train_epochs=2,
            learning_rate=5e-3, warmup_ratio=0.2, seed=3, dtype="float64", overlong="drop",
        )  # fmt: skip
        train_model(settings, tmp_path / "trainer")
    logged = [row["loss"] for row in read_jsonl(tmp_path / "trainer" / "metrics.jsonl") if "loss" in row]
    assert len(logged) == len(losses) > 4
    assert losses == pytest.approx(logged, rel=1e-12)
    checkpoint = newest_good(tmp_path / "trainer" / "checkpoints", print)
    assert checkpoint
    before, theirs = (AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64) for _ in range(2))
    load_weights(checkpoint, theirs)
    for name, parameter in mine.named_parameters():
        assert float((parameter - theirs.get_parameter(name)).detach().abs().max()) < 1e-12, name
        assert float((parameter - before.get_parameter(name)).detach().abs().max()) > 1e-3, f"{name} did not train"


def test_the_example_runs_from_the_command_line(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, rows = inputs
    words = [str(EXAMPLE), str(model), str(rows), str(tmp_path / "out"), "--window", "96", "--num_train_epochs", "1"]
    monkeypatch.setattr(sys, "argv", words)
    plain_loop().main()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [f"step {n}" for n in (1, 2, 3, 4)]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.model_type == "llama"


def test_the_command_it_names_is_taken_and_has_the_same_defaults() -> None:
    """The loop's defaults are the program's, so the two commands of its docstring do the same."""
    loop = plain_loop()
    [words] = commands(loop.__doc__)
    verb, command, rest = verb_of(spread_lists(words))
    with command.make_context(verb, rest) as context:
        settings_of(verb, context)
    assert words[words.index("--overlong") + 1] == "drop"
    defaults = {name: p.default for name, p in inspect.signature(loop.train).parameters.items()}
    settings = TrainSettings()
    assert defaults["epochs"] == settings.num_train_epochs
    for name in ("learning_rate", "warmup_ratio", "max_grad_norm", "seed"):
        assert defaults[name] == getattr(settings, name), name
    assert (settings.optimizer, settings.strategy, settings.weighting) == ("adamw", "balanced", "sequence")
    assert (settings.adam_beta1, settings.adam_beta2, settings.weight_decay) == (0.9, 0.95, 0.0)
    assert settings.lr_scheduler_type == "cosine"


def test_the_example_can_be_read_in_one_go() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < LONGEST_FILE
