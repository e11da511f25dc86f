"""Sequence parallelism and the wrappers of several ranks give the plain definition's gradients, in real processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, MistralConfig, Qwen3Config

from longalign.errors import ModelError
from longalign.train.attention import pack_kwargs
from longalign.train.parallel.ulysses import SequenceParallel, shard_inputs
from longalign.train.perplexity import perplexity_by_position
from longalign.train.prepare import enable_checkpointing
from tests.makers.models import tiny_config
from tests.makers.other_families import FAMILIES
from tests.oracles.plain_loss import plain_gradients, relative_error
from tests.train.runs import tiny_store
from tests.train.tiny import DoubleThroughout, gradients_of, packed_inputs, sequences_of, tiny_model

PACKS = [[9, 1, 23, 14], [31], [5, 5, 20, 2, 17], [12, 3]]
"""What each data rank trains on: uneven, of odd lengths, each with a sequence that has no targets."""


def _rank(rank: int, count: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    try:
        sharing_one_pack()
        sharing_sinks_caps_and_balance_losses()
        data_parallel_by_sequence_parallel()
        perplexity_of_shared_windows(Path(f"{store}-{rank}"))
    finally:
        dist.destroy_process_group()


def scaled(inputs: dict[str, Any], by: float) -> dict[str, Any]:
    return inputs | {"loss_weights": inputs["loss_weights"] * by}


def data_and_plain(model: nn.Module, data_ranks: int) -> tuple[list[Any], dict[str, Tensor]]:
    batches = [sequences_of(PACKS[r], seed=r) for r in range(data_ranks)]
    return batches, plain_gradients(model, [s for batch in batches for s in batch])[1]


def all_gradients(model: nn.Module, wrapped: nn.Module, inputs: dict[str, Any]) -> dict[str, Tensor]:
    """Gradients after the wrapper averaged them, whole again if they were sharded."""
    wrapped.zero_grad(set_to_none=True)
    wrapped(**inputs).loss.backward()
    return {
        name: (p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad).clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


def sharing_one_pack() -> None:
    """Every rank in one group: families with other head counts and windows, then mistakes that must show."""
    sp = SequenceParallel.start(dist.get_world_size())
    heads = 2 * sp.degree
    for config in (  # the second one also shows what the equality notices
        tiny_config(LlamaConfig, num_attention_heads=heads, num_key_value_heads=sp.degree),
        tiny_config(LlamaConfig, num_attention_heads=heads, num_key_value_heads=1),
        tiny_config(LlamaConfig, num_attention_heads=3 * heads, num_key_value_heads=3, hidden_size=48),
        tiny_config(Qwen3Config, num_attention_heads=heads, num_key_value_heads=2, head_dim=4),
        tiny_config(MistralConfig, num_attention_heads=heads, num_key_value_heads=2, sliding_window=7),
    ):
        model = tiny_model(config)
        sp.check(model.config)
        sequences = sequences_of(PACKS[0])
        inputs = packed_inputs(sequences)
        loss, expected = plain_gradients(model, sequences)
        output = model(**shard_inputs(inputs, sp))
        whole = model(**inputs)
        torch.testing.assert_close(sp.gather(output.nll)[:, : whole.nll.shape[1]], whole.nll)
        total = output.loss.detach().clone()
        dist.all_reduce(total)
        torch.testing.assert_close(total, loss, rtol=1e-12, atol=1e-12)

        def summed(local: dict[str, Any], model: nn.Module = model) -> dict[str, Tensor]:
            found = gradients_of(model, local)[1]
            for gradient in found.values():
                dist.all_reduce(gradient)
            return found

        right = shard_inputs(inputs, sp)
        assert relative_error(summed(right), expected) < 1e-10
        if config.num_key_value_heads != 1:
            continue
        model.train()
        enable_checkpointing(model, offload=False)
        assert relative_error(summed(right), expected) < 1e-10, "layers recomputed, exchanges included"
        nothing = torch.zeros(1, 1, dtype=torch.long)
        idle = {
            "input_ids": nothing,
            "position_ids": nothing,
            "target_ids": nothing - 100,
            "loss_weights": 0.0 * nothing,
        }
        assert not any(g.any() for g in summed(shard_inputs(idle | pack_kwargs([0, 1]), sp)).values())
        assert relative_error(summed(shard_inputs(scaled(inputs, 1.01), sp)), expected) > 1e-3, "a wrong weight"
        moved = {**right, "position_ids": right["position_ids"].flip(1)}
        assert relative_error(summed(moved), expected) > 1e-4, "positions of another part"
        rolled = {**inputs, **{k: inputs[k].roll(1, 1) for k in ("target_ids", "loss_weights")}}
        assert relative_error(summed(shard_inputs(rolled, sp)), expected) > 1e-3, "a shifted shard of targets"
        leaky = packed_inputs(sequences)
        leaky["cu_seq_lens_q"] = torch.tensor([0, 9, 33, 47], dtype=torch.int32)
        assert relative_error(summed(shard_inputs(leaky, sp)), expected) > 1e-4, "two segments merged"
        swapped = SequenceParallel(sp.group)
        swapped.rank = sp.degree - 1 - sp.rank
        wrong = shard_inputs(inputs, swapped)
        assert relative_error(summed(wrong), expected) > 1e-4, "shards in the wrong order"


def sharing_sinks_caps_and_balance_losses() -> None:
    """What is held by heads or counted over tokens, shared by ranks, against one process (which test_families.py and
    test_router_loss.py compare with the definition)."""
    sp = SequenceParallel.start(dist.get_world_size())
    for name in ("gpt-oss", "Gemma 2", "Mixtral", "Gemma 3"):
        config = FAMILIES[name].build()
        text = config.get_text_config()
        text.num_attention_heads, text.head_dim, text.num_key_value_heads = 2 * sp.degree, 4, 2
        if not name.startswith("Gemma"):
            config.output_router_logits, config.router_aux_loss_coef = True, 0.7
        model = tiny_model(config)
        inputs = packed_inputs(sequences_of(PACKS[0]))
        inputs["segment_lengths"] = inputs["cu_seq_lens_q"].diff()
        with DoubleThroughout():
            loss, expected = gradients_of(model, inputs)
            total, found = gradients_of(model, shard_inputs(inputs, sp))
        for value in (total, *found.values()):
            dist.all_reduce(value)
        torch.testing.assert_close(total, loss, rtol=1e-12, atol=1e-12)
        assert relative_error(found, expected) < 1e-10, name
        if name == "gpt-oss":
            swapped = shard_inputs(inputs, sp)
            swapped["sequence_parallel"] = SequenceParallel(sp.group)
            swapped["sequence_parallel"].own_heads = lambda sinks: sinks[: len(sinks) // sp.degree]
            total, found = gradients_of(model, swapped)
            for value in found.values():
                dist.all_reduce(value)
            assert relative_error(found, expected) > 1e-4, "every rank takes the first rank's sinks"


def data_parallel_by_sequence_parallel() -> None:
    """Half the ranks share packs, wrapped by DDP and by FSDP2: weights times the number of all ranks."""
    from torch.distributed.fsdp import fully_shard

    world = dist.get_world_size()
    for degree in (1, world // 2, world):
        sp = SequenceParallel.start(degree)
        data_ranks = world // degree
        for tied in (False, True):
            model = tiny_model(tiny_config(tie_word_embeddings=tied))
            batches, expected = data_and_plain(model, data_ranks)
            mine = packed_inputs(batches[dist.get_rank() // degree])
            inputs = shard_inputs(scaled(mine, world), sp)
            ddp = DistributedDataParallel(model)
            assert relative_error(all_gradients(model, ddp, inputs), expected) < 1e-10
            forgotten = shard_inputs(scaled(mine, data_ranks), sp)
            if degree > 1:
                assert relative_error(all_gradients(model, ddp, forgotten), expected) > 0.1, "data ranks only"

            model = tiny_model(tiny_config(tie_word_embeddings=tied))
            for layer in model.model.layers:
                fully_shard(layer)
            fully_shard(model, reshard_after_forward=True)
            assert relative_error(all_gradients(model, model, inputs), expected) < 1e-10


def perplexity_of_shared_windows(folder: Path) -> None:
    """Each rank holds a part of the window (lengths that do not divide among them too); weights whole and sharded."""
    from torch.distributed.fsdp import fully_shard

    store = tiny_store(folder)
    sp = SequenceParallel.start(dist.get_world_size())
    model = tiny_model(tiny_config(num_attention_heads=4, num_key_value_heads=2))
    alone = perplexity_by_position(model, store, most_tokens=10**6)
    assert set(alone) == {"0-31", "32-63"}
    parts = []
    model.model.layers[0].register_forward_hook(lambda layer, args, out: parts.append(args[0].shape[1]))
    shared = perplexity_by_position(model, store, most_tokens=10**6, sequence_parallel=sp)
    assert shared == pytest.approx(alone, rel=1e-12)
    assert max(parts) == -(-int(store.lengths.max()) // sp.degree), "no rank holds more than its part of a window"
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    sharded = perplexity_by_position(model, store, most_tokens=10**6, sequence_parallel=sp)
    assert sharded == pytest.approx(alone, rel=1e-12)
    swapped = SequenceParallel(sp.group)
    swapped.rank = sp.degree - 1 - sp.rank
    wrong = perplexity_by_position(model, store, most_tokens=10**6, sequence_parallel=swapped)
    assert wrong != pytest.approx(alone, rel=1e-4), "what the equality notices"


@pytest.mark.slow  # two ranks that share a pack are also in test_gradients.py
@pytest.mark.parametrize("ranks", [2, 4])
def test_gradients_equal_the_plain_definition_and_mistakes_show(ranks: int, tmp_path: Path) -> None:
    """One start of processes for all cases: importing torch takes them longer than the cases do."""
    torch.multiprocessing.spawn(_rank, (ranks, str(tmp_path / "store")), nprocs=ranks)


def test_a_degree_that_does_not_divide_the_heads_is_refused() -> None:
    sp = SequenceParallel.__new__(SequenceParallel)
    sp.degree = 3
    with pytest.raises(ModelError, match="does not divide the model's 4 attention heads; possible degrees: 2, 4"):
        sp.check(tiny_config())
