"""One declaration of batching, optimizer and execution: what can be planned can be trained, and the other way round."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.decides import decides, result_settings
from longalign.config import ExtendSettings, LoopSettings, PlanSettings, TrainSettings
from longalign.config.base import note_alias
from longalign.config.execution import StepSettings
from longalign.config.load import build
from longalign.config.plan import execution, parallel_of, plan_settings, step_arguments
from longalign.errors import ConfigError

EXCLUDED: list[tuple[dict[str, Any], str]] = [
    ({"packing": "next_fit", "strategy": "balanced"}, "packing needs strategy packed: 'balanced' fills no packs"),
    ({"packs_per_step": 8, "strategy": "padded"}, "packs_per_step needs strategy packed: 'padded' fills no packs"),
    ({"weighting": "plain_packing"}, "weighting plain_packing needs strategy packed: the packs of 'balanced'"),
    ({"cpu_offload": True, "parallel": "ddp"}, "cpu_offload: parallel ddp cannot offload; use fsdp2"),
    ({"optimizer": "muon", "parallel": "deepspeed"}, "optimizer: muon needs whole gradients"),
    ({"mlp_tile_tokens": 64, "parallel": "deepspeed"}, "mlp_tile_tokens: ZeRO-3 gathers weights at each call"),
    ({"activation_offload": True, "gradient_checkpointing": False}, "activation_offload keeps what"),
    ({"quantize": "4bit"}, "quantize: 4-bit weights cannot be trained; add lora_rank"),
    ({"quantize": "4bit", "lora_rank": 4, "parallel": "deepspeed"}, "quantize: deepspeed cannot split 4-bit weights"),
    ({"quantize": "4bit", "lora_rank": 4, "cpu_offload": True}, "quantize: cpu_offload does not keep 4-bit weights"),
    ({"lora_target_modules": ["lm_head"], "lora_rank": 4}, "leave lm_head out, or let it train whole: --lora_modules"),
    ({"lora_adapter": "somewhere"}, "lora_adapter: nothing gets adapters without lora_rank; add it .its rank."),
    ({"lora_modules_to_save": ["norm"]}, "lora_modules_to_save: nothing gets adapters without lora_rank"),
]
EXECUTION = {
    "parallel", "sequence_parallel", "cpu_offload", "gradient_checkpointing", "activation_offload", "mlp_tile_tokens",
    "liger_kernels", "loss_chunk_tokens", "token_limit", "rows_per_microbatch", "save_steps", "save_total_limit",
    "export_dtype",
}  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), EXCLUDED)
def test_train_and_plan_refuse_the_same_in_the_same_words(changes: dict[str, Any], words: str) -> None:
    said = []
    for cls in (TrainSettings, PlanSettings):
        with pytest.raises(ConfigError, match=words) as error:
            build(cls, changes, "command line")
        said.append(str(error.value))
    assert said[0] == said[1]


def test_what_steps_and_their_execution_are_is_declared_once() -> None:
    allowed = {"weighting": {"ExtendSettings"}, "num_train_epochs": {"TrainSettings"}}  # other defaults
    for name in StepSettings.model_fields:
        declared = {
            cls.__name__
            for cls in (LoopSettings, ExtendSettings, TrainSettings, PlanSettings)
            if name in cls.__annotations__
        }
        assert declared <= allowed.get(name, set()), name
    shared = TrainSettings.model_fields.keys() & PlanSettings.model_fields.keys()
    assert shared >= {"packing", "packs_per_step", "parallel", "optimizer", "lora_rank", "quantize", "chat_template"}


def test_packing_alone_means_the_packed_strategy() -> None:
    assert TrainSettings(packing="next_fit").strategy == "packed"
    assert PlanSettings(packs_per_step=16).strategy == "packed"
    assert TrainSettings().strategy == "balanced"


@pytest.mark.parametrize(
    ("earlier", "present"),
    [
        ({"epochs": 3}, {"num_train_epochs": 3}),
        ({"layout": "sp4"}, {"sequence_parallel": 4}),
        ({"layout": "auto"}, {"sequence_parallel": None}),
        ({"sequence_parallel": "auto"}, {"sequence_parallel": None}),
        ({"sharding": "full"}, {"parallel": "fsdp2"}),
        ({"sharding": "none"}, {"parallel": "ddp"}),
        ({"sharding": None}, {"parallel": None}),
    ],
)
def test_earlier_names_of_plan_are_read_as_what_they_became(earlier: dict[str, Any], present: dict[str, Any]) -> None:
    assert build(PlanSettings, earlier, "here") == build(PlanSettings, present, "here")


def test_an_earlier_name_is_noted_once_with_both_names(capsys: pytest.CaptureFixture[str]) -> None:
    note_alias.cache_clear()
    for _ in range(2):
        PlanSettings.model_validate({"epochs": 2})
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "note: epochs is now called num_train_epochs; the earlier name is still read\n"


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="epochs is the earlier name of num_train_epochs; give num_train_epochs alone"
    ):
        build(PlanSettings, {"epochs": 2, "num_train_epochs": 3}, "here")


def test_an_earlier_name_with_a_wrong_value_is_refused_by_its_present_name() -> None:
    with pytest.raises(ConfigError, match="`sequence_parallel` = 'x'"):
        build(PlanSettings, {"layout": "spx"}, "here")


@given(
    st.sampled_from([None, "none", "ddp", "fsdp2", "deepspeed"]),
    st.integers(1, 16),
    st.sampled_from(["cpu", "h200"]),
    st.booleans(),
    st.booleans(),
)
def test_a_run_and_the_plan_of_it_are_carried_out_alike(
    parallel: str | None, ranks: int, machine: str, offload: bool, quantised: bool
) -> None:
    asked = {"parallel": parallel, "cpu_offload": offload} | ({"quantize": "4bit", "lora_rank": 8} if quantised else {})
    try:
        settings = TrainSettings(**asked, packing="next_fit", packs_per_step=16)
    except ValueError:
        return
    planned = plan_settings(settings, model="7b", machine=machine, ranks=ranks)
    assert step_arguments(planned) == step_arguments(settings)
    how = parallel_of(settings, ranks=ranks, on_gpu=machine != "cpu")
    assert execution(planned).sharding == ("none" if how in ("none", "ddp") else "full")
    assert execution(planned).gradient_checkpointing == (machine != "cpu")
    assert (how in ("fsdp2", "deepspeed")) >= offload
    assert parallel is None or how == parallel


def test_marks_say_which_settings_do_not_decide_the_result() -> None:
    for cls in (TrainSettings, ExtendSettings):
        marks = {name: decides(cls, name) for name in cls.model_fields}
        assert {name for name, mark in marks.items() if mark == "execution"} == EXECUTION
        reporting = {"report_to", "eval_steps", "eval_tasks", "eval_task_steps"}
        assert {name for name, mark in marks.items() if mark == "reporting"} == reporting
    changed = TrainSettings(parallel="fsdp2", token_limit=9, save_steps=3, report_to="wandb", rows_per_microbatch=2)
    assert result_settings(changed) == result_settings(TrainSettings())
    assert result_settings(TrainSettings(dtype="float32")) != result_settings(TrainSettings())
