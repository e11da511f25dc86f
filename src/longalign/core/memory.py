"""The memory a rank needs, part by part, and the largest microbatch that fits: an estimate, with its parts shown.

It follows the training code. Trained weights are float32, each with a float32 gradient and the optimizer's moments.
Sharded layers are gathered in compute precision, two at a time. Unsharded weights are copied by autocast as they are
used, and the residual stream then stays float32. Weights that LoRA freezes are stored in compute precision or in 4
bits. tests/train/test_memory.py compares the activations with the live tensors of a real step.
"""

from __future__ import annotations

from dataclasses import dataclass

from longalign.core.hardware import Execution, Machine
from longalign.core.model_shape import OUTPUTS, ModelShape

RESERVE_BYTES = 3e9  # CUDA context, communication buffers, fragmentation
NF4_BYTES = 0.5 + (1 + 4 / 256) / 64  # a 4-bit weight, its share of a byte a block, and of a float a 256 blocks
LOGITS_HELD = 2**27  # elements of the logits that the loss holds on a GPU (train/loss.py)


@dataclass(frozen=True)
class RankMemory:
    """Bytes on one rank's accelerator at the peak of a step; `host`: beside it, in the host's memory.

    states: weights, gradients and moments. weights_in_use: copies that compute works on. checkpoints: what layers keep
    until the backward pass reaches them. layer, head: the working memory of one layer and of the loss; never both.
    """

    states: float
    weights_in_use: float
    checkpoints: float
    layer: float
    head: float
    reserve: float
    host: float

    @property
    def total(self) -> float:
        working = max(self.layer, self.head)
        return self.states + self.weights_in_use + self.checkpoints + working + self.reserve


def rank_memory(shape: ModelShape, execution: Execution, *, ranks: int, tokens: int) -> RankMemory:
    """Memory of one rank that runs microbatches of `tokens` tokens (its own share under sequence parallelism)."""
    states = _states(shape, execution, ranks)
    stream = execution.stream_bytes(ranks)
    kept, working = _layer_bytes_per_token(shape, execution, stream, tokens)
    checkpoints = (stream * shape.hidden if execution.gradient_checkpointing else kept) * tokens * shape.layers
    offloaded = execution.gradient_checkpointing and execution.activation_offload
    host_states = execution.cpu_offload and execution.sharded(ranks)
    return RankMemory(
        states=0.0 if host_states else states,
        weights_in_use=_weights_in_use(shape, execution, ranks),
        checkpoints=0.0 if offloaded else checkpoints,
        layer=(working if execution.gradient_checkpointing else working - kept) * tokens,
        head=_head(shape, execution, tokens),
        reserve=RESERVE_BYTES,
        host=(states if host_states else 0.0) + (checkpoints if offloaded else 0.0),
    )


def largest_microbatch(shape: ModelShape, execution: Execution, machine: Machine, *, ranks: int) -> int:
    """Most tokens a rank's microbatch can have within the machine's memory; 0 if not even one token fits."""
    low, high = 0, 1 << 30
    while low < high:
        middle = (low + high + 1) // 2
        if rank_memory(shape, execution, ranks=ranks, tokens=middle).total <= machine.memory_bytes:
            low = middle
        else:
            high = middle - 1
    return low


def trained_parameters(shape: ModelShape, execution: Execution) -> int:
    """Weights that train: all of them, or adapters and the modules that train whole beside them."""
    if execution.lora_rank is None:
        return shape.parameters
    return shape.lora_parameters(execution.lora_rank) + shape.whole_parameters(execution.lora_modules_to_save)


def gathered_bytes(shape: ModelShape, execution: Execution) -> float:
    """Of the model's own weights as compute reads them: matrices of layers may be in 4 bits."""
    in_layers = shape.layers * shape.layer_parameters()
    others = execution.compute_bytes * (shape.parameters - in_layers)
    return (NF4_BYTES if execution.quantize else execution.compute_bytes) * in_layers + others


def _states(shape: ModelShape, execution: Execution, ranks: int) -> float:
    """float32 weight and gradient, and two float32 moments (Muon: one for matrices of layers); frozen weights."""
    trained, adapters = trained_parameters(shape, execution), execution.lora_rank is not None
    matrices = shape.lora_parameters(execution.lora_rank or 0) if adapters else shape.layers * shape.layer_parameters()
    frozen = gathered_bytes(shape, execution) if adapters else 0.0
    moments = 8.0 * trained - (4.0 * matrices if execution.optimizer == "muon" else 0.0)
    if execution.sharded(ranks):
        return (8.0 * trained + moments + frozen) / ranks
    buckets = 4.0 * trained if ranks > 1 else 0.0  # DDP holds gradients once more, to send them
    return 8.0 * trained + moments + frozen + buckets


def _weights_in_use(shape: ModelShape, execution: Execution, ranks: int) -> float:
    """Sharded: two layers whole and a third on its way, gradients of one and their float32 copy to be reduced; head and
    embedding whole, and the head's gradient. Whole: autocast's copies of a layer and of the head. In 4 bits: one matrix
    at full width. What trains whole beside adapters has a copy and, sharded, a gradient.
    """
    size, trains = execution.compute_bytes, execution.lora_rank is None
    ends = (1 if shape.tied else 2) * shape.head_parameters
    one_matrix = size * shape.hidden * max(shape.intermediate, shape.attention_width) if execution.quantize else 0.0
    whole = 0 if trains else size * shape.whole_parameters(execution.lora_modules_to_save)
    if execution.sharded(ranks):
        held = NF4_BYTES if execution.quantize else size
        layer = shape.layer_parameters() * (3.0 * held + (size + 4.0 if trains else 0.0))
        return layer + one_matrix + size * (ends + (shape.head_parameters if trains else 0)) + 2.0 * whole
    copies = size * (shape.layer_parameters() + shape.head_parameters) if trains else whole
    return one_matrix + (copies if execution.half else 0.0)


def _layer_bytes_per_token(shape: ModelShape, execution: Execution, stream: int, tokens: int) -> tuple[float, float]:
    """(kept between forward and backward, at the peak of the backward pass) by one layer.

    Two norms keep their float32 input, the normalised value and the result; attention keeps queries, keys, values and
    its output; a gated MLP keeps gate, activated gate, up and their product. At the peak one of attention (with the
    gradients of all it keeps and a float32 sum for queries) and MLP (with two gradients) is being differentiated,
    beside the gradients of the stream and of the branch, and the layer's input.
    """
    size, hidden = execution.compute_bytes, shape.hidden
    norms = 2.0 * hidden * (4 + stream + size)
    attention = 2.0 * size * (shape.attention_width + shape.kv_width)
    attention_gradients = attention + 4.0 * shape.attention_width
    width = shape.experts_per_token * shape.intermediate + shape.shared_intermediate
    mlp, mlp_gradients = 4.0 * size * width, 2.0 * size * width
    if execution.mlp_tile_tokens and shape.experts == 1:
        share = min(1.0, execution.mlp_tile_tokens / max(tokens, 1))
        mlp, mlp_gradients = 0.0, share * (mlp + mlp_gradients) + 2.0 * size * hidden  # results, and them put together
    kept = norms + attention + mlp
    return kept, kept + 3.0 * stream * hidden + max(attention_gradients - mlp, mlp_gradients)


def _head(shape: ModelShape, execution: Execution, tokens: int) -> float:
    """A chunk of float32 logits and their gradient in the precision of compute, float32 gradients of the head (if it
    trains) and of the hidden states, all tokens taken as targets, and the same in the precision of compute.
    """
    size = execution.compute_bytes
    chunk = min(execution.loss_chunk_tokens or LOGITS_HELD // shape.vocabulary, tokens)
    modules = execution.lora_modules_to_save
    trains = execution.lora_rank is None or shape.whole_parameters((*OUTPUTS, *modules)) == shape.whole_parameters(
        modules
    )
    gradients = shape.hidden * tokens + (shape.head_parameters if trains else 0)
    return (4.0 + size) * chunk * shape.vocabulary + (4.0 + size) * gradients
