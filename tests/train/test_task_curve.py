"""Tasks that are asked while a model trains change nothing but what is known about it."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from longalign.base.files import read_jsonl
from longalign.config import EvalSettings, TrainSettings
from longalign.errors import ConfigError
from longalign.eval.evaluate import evaluate
from longalign.train.live_model import answering
from longalign.train.sft import train
from tests.makers.other_families import FAMILIES
from tests.makers.rows import make_inputs
from tests.train.runs import in_process, on_ranks
from tests.train.tiny import packed_inputs, sequences_of, tiny_model

TASK = "tests.train.hash_task:Hash"
STEPS = 12
ON_RANKS = {"dtype": "float64", "max_steps": 6, "best_by": "hash.mean"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("curve"))


def settings(place: Path, *, asked: bool = True, **more: Any) -> TrainSettings:
    rows = str(place / "rows.jsonl")
    values: dict[str, Any] = {
        "model": str(place / "model"), "data": {rows: None}, "window": 128, "sequences_per_step": 4,
        "num_train_epochs": 20, "max_steps": STEPS, "learning_rate": 5e-2, "save_steps": 4, "seed": 1,
    }  # fmt: skip
    if asked:
        values |= {"eval_tasks": {"tasks": {"hash": {"task": TASK}}, "batch_tokens": 1024}, "eval_task_steps": 2}
    return TrainSettings(**(values | more))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "final" / "model.safetensors")


def losses(out: Path) -> list[tuple[int, float, float]]:
    rows = read_jsonl(out / "metrics.jsonl")
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows if "loss" in row]


def curve(out: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["tasks"]["hash"]["mean"]) for row in read_jsonl(out / "metrics.jsonl") if "tasks" in row]


def test_training_is_bitwise_the_same_with_and_without_tasks(place: Path, tmp_path: Path) -> None:
    """With dropout, so that a random draw too many would show; the last point is what `longalign eval` measures."""
    lora = {"lora_rank": 4, "lora_dropout": 0.2, "max_steps": 4}
    train(settings(place, asked=False, **lora), tmp_path / "plain")
    train(settings(place, **lora), tmp_path / "asked")
    assert losses(tmp_path / "asked") == losses(tmp_path / "plain")
    expected = weights(tmp_path / "plain")
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path / "asked").items())
    found = curve(tmp_path / "asked")
    assert [step for step, _ in found] == [0, 2, 4]
    assert len({value for _, value in found}) > 2, "the curve follows the weights"
    alone = EvalSettings(model=str(tmp_path / "asked" / "final"), tasks={"hash": {"task": TASK}}, batch_tokens=1024)
    assert evaluate(alone, tmp_path / "eval")["overall"]["mean"] == found[-1][1]


def test_while_it_answers_a_model_generates_as_plain_ones_do_and_afterwards_trains_as_before() -> None:
    model: Any = tiny_model()
    before = torch.get_rng_state(), model.config._attn_implementation

    def fails() -> None:
        with answering(model):
            assert model._supports_logits_to_keep(), "or the logits of whole prompts would be in memory"
            assert (model.training, model.config._attn_implementation) == (False, "sdpa")
            torch.rand(1)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (model.training, model.config._attn_implementation) == (True, before[1])
    inputs = packed_inputs(sequences_of([5, 9]))
    assert model(**inputs).loss.requires_grad, "its loss is there again"


@pytest.mark.parametrize("family", ["Gemma 2", "gpt-oss", "BLOOM"])
def test_caps_sinks_and_biases_of_attention_hold_while_it_answers(family: str) -> None:
    model: Any = tiny_model(FAMILIES[family].build())
    ids = torch.arange(5, 30)[None]
    with answering(model), torch.no_grad():
        answered = model(input_ids=ids).logits
    model.set_attn_implementation("eager")
    with torch.no_grad():
        torch.testing.assert_close(answered, model.eval()(input_ids=ids).logits)


@pytest.mark.slow
def test_final_has_the_best_weights_and_training_ends_when_nothing_improves(place: Path, tmp_path: Path) -> None:
    wanted = settings(place, best_by="hash.mean", early_stop={"patience": 2}, save_steps=100)
    summary = train(wanted, tmp_path)
    found = curve(tmp_path)
    best_step, best = max(found[1:], key=lambda point: point[1])
    last = found[-1][0]
    assert last == min(STEPS, best_step + 4), "two measurements without an improvement"
    assert losses(tmp_path)[-1][0] == last
    assert summary["best"] == {"by": "hash.mean", "step": best_step, "value": best, "measured": len(found) - 1}
    assert f"the weights of step {best_step}" in (tmp_path / "final" / "README.md").read_text()
    alone = EvalSettings(model=str(tmp_path / "final"), tasks={"hash": {"task": TASK}}, batch_tokens=1024)
    assert evaluate(alone, tmp_path / "eval")["overall"]["mean"] == best
    before, manifest = weights(tmp_path), json.loads((tmp_path / "stage.json").read_text())
    shutil.rmtree(tmp_path / "final")
    (tmp_path / "stage.json").write_text(json.dumps(manifest | {"status": "running"}))  # killed before its export
    train(wanted, tmp_path)
    assert losses(tmp_path)[-1][0] == last, "it trains no further"
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path).items())


def test_a_figure_that_does_not_exist_is_named_before_any_step(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no figure hash\.maen \(did you mean `hash\.mean`\?\)"):
        train(settings(place, best_by="hash.maen"), tmp_path)
    assert losses(tmp_path) == []


@pytest.mark.slow
def test_killed_in_training_and_in_a_measurement_it_ends_the_same(place: Path, tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    tasks = {"tasks": {"hash": {"task": TASK, "dies_beside": str(bomb)}}, "batch_tokens": 1024}
    wanted = settings(place, eval_tasks=tasks, best_by="hash.mean", early_stop={"patience": 4})
    assert in_process(train, wanted, tmp_path / "straight") == 0
    out = tmp_path / "killed"

    def until(step: int) -> None:
        """Dies while the answers of that step are scored."""
        from longalign.train import task_curve

        plain = task_curve.TaskCurve._ask

        def ask(self: Any, live: Any, at: int) -> Any:
            if at == step:
                bomb.touch()
            return plain(self, live, at)

        task_curve.TaskCurve._ask = ask  # type: ignore[method-assign]
        train(wanted, out)

    answers = out / "eval-tasks/step-4/hash/answers.jsonl"
    assert in_process(until, 4) == -signal.SIGKILL  # right after the checkpoint of that step
    written = answers.stat().st_mtime_ns
    assert in_process(until, 10) == -signal.SIGKILL  # two steps after a checkpoint
    assert answers.stat().st_mtime_ns == written, "answered questions are not asked again"
    assert in_process(train, wanted, out) == 0
    assert curve(out) == curve(tmp_path / "straight")
    assert losses(out) == losses(tmp_path / "straight")
    expected = weights(tmp_path / "straight")
    assert all(torch.equal(value, expected[name]) for name, value in weights(out).items())


@pytest.fixture(scope="module")
def one(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    out = tmp_path_factory.mktemp("one")
    assert in_process(train, settings(place, **ON_RANKS), out) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "how"),
    [(2, {"parallel": "ddp"}), (2, {"parallel": "fsdp2"}), (4, {"parallel": "fsdp2", "sequence_parallel": 2})],
)
def test_ranks_measure_what_one_process_does(
    place: Path, one: Path, tmp_path: Path, count: int, how: dict[str, Any]
) -> None:
    on_ranks(count, train, settings(place, **ON_RANKS).model_copy(update=how), tmp_path)
    assert curve(tmp_path) == curve(one)
    best = [json.loads((out / "stage.json").read_text())["summary"]["best"] for out in (one, tmp_path)]
    assert best[0] == best[1]
    found = weights(tmp_path)
    for name, value in weights(one).items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)
