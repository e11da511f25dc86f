"""Cost, time and memory: the definitions hold, shares add up, shapes count as published."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.core.batching import plan_steps
from longalign.core.hardware import MACHINES, Execution, Machine
from longalign.core.memory import largest_microbatch, rank_memory
from longalign.core.model_shape import LLAMA_7B_COST, SHAPES, ModelShape, SequenceCost
from longalign.core.strategies import STRATEGIES
from longalign.core.timing import compare_degrees, layout_name, plan_time
from longalign.errors import ConfigError, PlanError
from tests.core.mixes import longalign_mix
from tests.oracles import planning as oracle

SHAPE = SHAPES["tiny"]
FREE = Machine(
    name="free wires", ranks_per_node=64, peak_flops=2.0, memory_bytes=1e12, node_bandwidth=1e30,
    network_bandwidth=1e30, efficiency=0.5,
)  # fmt: skip


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=60),
    st.sampled_from(tuple(STRATEGIES)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.sampled_from(["full", "none"]),
)
def test_step_times_are_those_of_the_definition_when_data_moves_for_free(lengths, strategy, ranks, rows, sharding):
    execution = Execution(sharding=sharding, gradient_checkpointing=False)
    plan = plan_steps(
        lengths, window=100, ranks=ranks, sequences_per_step=17, strategy=strategy, rows_per_microbatch=rows,
        cost=SHAPE.sequence_cost(), sync=execution.sync,
    )  # fmt: skip
    spent = plan_time(plan, SHAPE, FREE, execution)
    flops = lambda length: float(SHAPE.sequence_cost().flops(length))
    total = useful = 0.0
    for step, seconds in zip(plan, spent.step_s_S, strict=True):
        packs = [[[int(plan.lengths_N[row]) for row in pack] for pack in rank.packs] for rank in step.ranks]
        expected, work = oracle.step_seconds(packs, flops, padded=plan.layout == "padded", sync=execution.sync)
        assert seconds == pytest.approx(expected, rel=1e-9)
        total, useful = total + expected, useful + work
    assert spent.flops == pytest.approx(useful, rel=1e-9)
    assert spent.useful == pytest.approx(useful / (total * ranks), rel=1e-9)
    assert spent.useful + spent.padding + spent.communication + spent.idle == pytest.approx(1.0, abs=1e-9)
    assert spent.communication == pytest.approx(0.0, abs=1e-9)


def test_shares_of_time_add_up_and_communication_is_apart_from_idle():
    lengths = longalign_mix(2_000)
    for sharding in ("full", "none"):
        for degree in (1, 2, 8):
            execution = Execution(sharding=sharding)
            plan = plan_steps(
                lengths, window=65536, ranks=8, sequences_per_step=96, strategy="balanced", sequence_parallel=degree,
                sync=execution.sync,
            )  # fmt: skip
            spent = plan_time(plan, SHAPES["7b"], MACHINES["a100-80g"], execution)
            shares = (spent.useful, spent.padding, spent.communication, spent.idle)
            assert sum(shares) == pytest.approx(1.0, abs=1e-9)
            assert min(shares) >= 0
            assert (spent.communication > 0.002) == (degree > 1)
    assert spent.idle == pytest.approx(0.0, abs=1e-9)  # one group of all ranks has nobody to wait for


def test_attention_pairs_of_a_sequence_are_counted_one_by_one():
    for window in (0, 5):
        cost = SequenceCost(linear=0.0, quadratic=0.0 if window else 1.0, windowed=1.0 if window else 0.0,
                            attention_window=window)  # fmt: skip
        for length in (1, 4, 5, 6, 40):
            pairs = sum(min(t, window or t) for t in range(1, length + 1))
            assert float(cost.flops(length)) == pytest.approx(pairs, abs=0.5 * length + 0.5)


def test_shapes_are_read_from_configs_of_several_families():
    llama = {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False, "sliding_window": None,
    }  # fmt: skip
    shape = ModelShape.from_config(llama)
    assert shape.parameters == SHAPES["8b"].parameters
    assert shape.sequence_cost() == SHAPES["8b"].sequence_cost()
    mistral = ModelShape.from_config(llama | {"sliding_window": 4096})
    assert (mistral.windowed_layers, mistral.attention_window) == (32, 4096)
    assert mistral.sequence_cost().flops(65536) < shape.sequence_cost().flops(65536) / 1.5
    qwen = ModelShape.from_config(llama | {"sliding_window": 4096, "use_sliding_window": False})
    assert qwen.windowed_layers == 0
    gemma = ModelShape.from_config(
        {"text_config": llama | {"sliding_window": 512, "head_dim": 256,
                                 "layer_types": ["sliding_attention"] * 27 + ["full_attention"] * 5}}
    )  # fmt: skip
    assert (gemma.windowed_layers, gemma.head_dim) == (27, 256)
    mixtral = ModelShape.from_config(llama | {"num_local_experts": 8, "num_experts_per_tok": 2})
    assert mixtral.layer_parameters() > 3 * mixtral.layer_parameters(active=True)
    glm = ModelShape.from_config(
        {"hidden_size": 4096, "num_layers": 28, "num_attention_heads": 32, "multi_query_group_num": 2,
         "ffn_hidden_size": 13696, "padded_vocab_size": 65024, "kv_channels": 128, "add_qkv_bias": True}
    )  # fmt: skip
    assert glm.parameters == SHAPES["6b"].parameters
    hybrid = ModelShape.from_config(llama | {"layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 8})
    assert hybrid.sequence_cost().quadratic == shape.sequence_cost().quadratic / 4
    mamba = ModelShape.from_config({"hidden_size": 4096, "num_hidden_layers": 64, "vocab_size": 65024})
    assert mamba.sequence_cost().quadratic == 0
    gpt2 = ModelShape.from_config({"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257})
    assert (gpt2.hidden, gpt2.layers, gpt2.intermediate) == (768, 12, 3072)
    with pytest.raises(ConfigError, match="num_hidden_layers"):
        ModelShape.from_config({"hidden_size": 8, "num_attention_heads": 2})


def test_llama_7b_is_the_default_cost_of_a_plan():
    assert LLAMA_7B_COST.quadratic == SHAPES["7b"].sequence_cost().quadratic
    assert LLAMA_7B_COST.linear == pytest.approx(SHAPES["7b"].sequence_cost().linear, rel=1e-3)


def test_memory_grows_with_tokens_and_shrinks_with_what_saves_it():
    shape, room = SHAPES["7b"], lambda **kw: largest_microbatch(shape, Execution(**kw), MACHINES["h200"], ranks=8)
    assert rank_memory(shape, Execution(), ranks=8, tokens=1).states == pytest.approx(shape.parameters * 2)
    assert room() > 65536
    assert room(cpu_offload=True) > room()
    assert room(activation_offload=True) > room()
    assert room(lora_rank=16) > room()
    assert room(gradient_checkpointing=False) < room() / 5
    assert room(sharding="none") < room()
    assert largest_microbatch(SHAPES["70b"], Execution(), MACHINES["a100-80g"], ranks=1) == 0
    exact = rank_memory(shape, Execution(), ranks=8, tokens=room()).total
    assert exact <= MACHINES["h200"].memory_bytes < rank_memory(shape, Execution(), ranks=8, tokens=room() + 1).total


def options(lengths, ranks=8, window=65536, shape=SHAPES["7b"], **changes):
    def plan_sample(rows, degree, limit):
        return plan_steps(
            rows, window=window, ranks=ranks, sequences_per_step=96, strategy="balanced", sequence_parallel=degree,
            token_limit=limit,
        )  # fmt: skip

    return compare_degrees(
        lengths, plan_sample, shape=shape, machine=MACHINES["a100-80g"], execution=Execution(), ranks=ranks,
        sequences_per_step=96, window=window, **changes,
    )  # fmt: skip


def test_the_chosen_layout_has_the_shortest_step_of_those_that_fit():
    found = options(longalign_mix(8_000))
    times = [option.time.total_s for option in found if option.fits]
    assert times == sorted(times)
    assert found[0].degree > 1
    assert found[0].time.idle < 0.01
    assert {option.degree for option in found} == {1, 2, 4, 8, 16, 32, 64}
    assert all(option.reason for option in found if option.degree > 8)
    short = options(np.minimum(longalign_mix(8_000), 1024))
    assert short[0].name == "dp8"  # nothing long: sharing a sequence only costs


def test_a_window_beyond_one_rank_is_shared():
    lengths = longalign_mix(2_000)
    lengths[7] = 400_000
    found = options(lengths, window=400_000)
    assert found[0].fits
    assert found[0].degree >= 4
    assert found[0].token_limit * found[0].degree >= 400_000
    with pytest.raises(PlanError, match="400000 tokens exceed the limit of 40000"):
        options(lengths, window=400_000, token_limit=40_000)


def test_layout_names():
    assert (layout_name(8, 1), layout_name(8, 2), layout_name(16, 8)) == ("dp8", "sp2xdp4", "sp8xdp2")


def timed(execution: Execution, machine: Machine = MACHINES["h100-80g"], tokens: int = 65536):
    plan = plan_steps(
        [tokens] * 16, window=tokens, ranks=8, sequences_per_step=16, strategy="balanced", sync=execution.sync
    )
    return plan_time(plan, SHAPES["8b"], machine, execution)


def test_offload_costs_what_the_host_link_and_the_host_memory_allow():
    plain, long = timed(Execution()), 65536
    on_gpu = plain.total_s
    update_s = 28 * SHAPES["8b"].parameters / 8 / MACHINES["h100-80g"].host_memory_bandwidth
    assert timed(Execution(cpu_offload=True)).total_s == pytest.approx(on_gpu + update_s, rel=1e-9)  # rest is hidden
    short = timed(Execution(cpu_offload=True), tokens=512).total_s - timed(Execution(), tokens=512).total_s
    link_s = 2 * 12 * SHAPES["8b"].parameters / 8 / MACHINES["h100-80g"].host_link  # two microbatches a rank
    assert short == pytest.approx(update_s + link_s, rel=1e-9)  # too little to compute beside it
    moved_s = 2 * 2 * SHAPES["8b"].layers * SHAPES["8b"].hidden * 2 * long / MACHINES["h100-80g"].host_link
    assert timed(Execution(activation_offload=True)).total_s == pytest.approx(on_gpu + moved_s, rel=1e-9)
    frozen = timed(Execution(cpu_offload=True, lora_rank=16)).total_s - timed(Execution(lora_rank=16)).total_s
    assert frozen < update_s / 100


def test_tiles_cost_one_more_forward_pass_of_the_mlp():
    shape, machine = SHAPES["8b"], MACHINES["h100-80g"]
    flops = 2 * 65536 * 2 * 3 * shape.layers * shape.hidden * shape.intermediate
    more = timed(Execution(mlp_tile_tokens=4096)).total_s - timed(Execution()).total_s
    assert more == pytest.approx(flops / (machine.peak_flops * machine.efficiency), rel=1e-6)


def test_states_count_what_is_kept_of_each_weight():
    shape, bytes_of = SHAPES["8b"], lambda ranks=1, **kw: rank_memory(shape, Execution(**kw), ranks=ranks, tokens=1)
    assert bytes_of().states == 16 * shape.parameters
    assert bytes_of().weights_in_use == 2 * (shape.layer_parameters() + shape.head_parameters), "autocast's copies"
    assert bytes_of(half=False).weights_in_use == 0
    assert bytes_of(ranks=8, sharding="none").states == 20 * shape.parameters, "DDP's buckets"
    matrices = shape.layers * shape.layer_parameters()
    assert bytes_of(optimizer="muon").states == 16 * shape.parameters - 4 * matrices
    adapters = 16 * shape.lora_parameters(16)
    assert bytes_of(lora_rank=16).states == 2 * shape.parameters + adapters
    ends = {"lora_modules_to_save": ("embed_tokens", "lm_head", "norm")}
    whole = 2 * shape.head_parameters + shape.layers * shape.layer_vectors + shape.hidden
    assert bytes_of(lora_rank=16, **ends).states == 2 * shape.parameters + adapters + 16 * whole
    assert (
        bytes_of(lora_rank=16, **ends).head
        > bytes_of(lora_rank=16).head
        == bytes_of(lora_rank=16, lora_modules_to_save=("norm",)).head
    )
    quantised = bytes_of(lora_rank=16, quantize="4bit").states - adapters - 2 * (shape.parameters - matrices)
    assert quantised / matrices == pytest.approx(4.127 / 8, rel=1e-3), "the QLoRA paper's 0.127 bits of constants"
    offloaded = bytes_of(ranks=4, cpu_offload=True)
    assert (offloaded.states, offloaded.host) == (0, 4 * shape.parameters)
