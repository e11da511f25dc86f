"""One case of `benchmarks.gpu_training`, in a process of its own: steps of a Qwen3 shape by LongAlign or by TRL.

    python -m benchmarks.gpu_case --one CASE     prints what was measured; both sides as JSON

TRL packs with bfd, without padding, with Liger if that is installed; its attention is flash-attn if that is, else the
kernel that we registered, which takes TRL's segment boundaries: then the ratio is of all but attention.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.measure import Measured
from longalign.config import TrainSettings
from longalign.core.model_shape import ModelShape
from longalign.data.tokenize import TokenSequence

FIELDS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
SHAPES = {
    "0.6b": (1024, 28, 16, 8, 3072),
    "1.7b": (2048, 28, 16, 8, 6144),
    "4b": (2560, 36, 32, 8, 9728),
    "8b": (4096, 36, 32, 8, 12288),
    "tiny": (64, 2, 4, 2, 96),
}
LORA_RANK = 16
LONG_STEP_S = 20.0  # beside which the second that a first step takes longer is nothing


@dataclass(frozen=True)
class Case:
    """One process: `what` it measures, for `side` longalign or trl, `mode` full or lora."""

    what: str
    shape: str
    mode: str
    window: int
    side: str = "longalign"
    settings: dict[str, Any] = field(default_factory=dict)
    packs: int = 4
    on_gpu: bool = True

    @property
    def name(self) -> str:
        return " ".join([self.side, self.shape, self.mode, str(self.window), *map(str, self.settings)])


def config(case: Case) -> Any:
    from transformers import Qwen3Config

    small = case.shape == "tiny"
    return Qwen3Config(
        **dict(zip(FIELDS, SHAPES[case.shape], strict=True)), head_dim=16 if small else 128,
        vocab_size=512 if small else 151936, tie_word_embeddings=case.shape != "8b", max_position_embeddings=2**20,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip


def settings_of(case: Case, window: int) -> TrainSettings:
    lora = LORA_RANK if case.mode == "lora" else None
    return TrainSettings(
        window=window, token_limit=window, lora_rank=lora, weighting="token", gradient_checkpointing=True,
        **case.settings,
    )  # fmt: skip


def rows(window: int, tokens: int, vocabulary: int, longest: int | None = None) -> list[TokenSequence]:
    """Rows of `tokens` tokens in all: 70% short, 30% spread over an eighth of the window and more; the last fifth of
    each is its targets. With `longest` every row is that long."""
    rng, made, left = np.random.default_rng(0), [], tokens
    while left > 1:
        long = rng.random() < 0.3
        drawn = np.exp(rng.uniform(np.log(window / 8), np.log(window))) if long else rng.integers(8, window // 16)
        length = min(longest or int(drawn), left)
        target_T = np.arange(length) >= max(1, length * 4 // 5)
        made.append(TokenSequence(rng.integers(3, vocabulary, length).astype(np.int32), target_T))
        left -= length
    return [row for row in made if row.target_count]


def step_of(case: Case, window: int, data: list[TokenSequence]) -> Callable[[], None]:
    """A step over `data` on a fresh model."""
    import torch

    from benchmarks.steps import longalign_step, trl_step
    from longalign.train import attention
    from longalign.train.parallel import ranks
    from longalign.train.parallel.placement import join
    from longalign.train.prepare import build_model

    settings = settings_of(case, window)
    if case.side == "longalign":
        placement = join(settings)
        with tempfile.TemporaryDirectory() as folder, torch.device(ranks.this_device()):
            config(case).save_pretrained(folder)
            model, _ = build_model(settings, placement, folder, init="random")
        return longalign_step(model, data, settings)

    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    lora = case.mode == "lora"
    attention.register()
    kernel = "flash_attention_2" if find_spec("flash_attn") and case.on_gpu else attention.NAME
    with torch.device(ranks.this_device()):
        model = AutoModelForCausalLM.from_config(
            config(case), dtype=torch.bfloat16 if lora and case.on_gpu else torch.float32, attn_implementation=kernel
        )
    peft_config = LoraConfig(r=LORA_RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    return trl_step(
        model, data, peft_config=peft_config if lora else None, max_length=window, packing_strategy="bfd",
        padding_free=True, gradient_checkpointing=True, bf16=case.on_gpu, use_cpu=not case.on_gpu,
        use_liger_kernel=bool(find_spec("liger_kernel")) and case.on_gpu,
    )  # fmt: skip


def timed(case: Case, window: int, data: list[TokenSequence], repeats: int) -> Measured:
    """Fastest of `repeats` steps after one to warm up, which counts itself where it takes long enough; peak memory of
    the GPU over all of them."""
    import torch

    wait = torch.cuda.synchronize if case.on_gpu else lambda: None
    step = step_of(case, window, data)
    walls: list[float] = []
    while len(walls) <= repeats and not (walls and walls[0] > LONG_STEP_S):
        start = time.perf_counter()
        step()
        wait()
        walls.append(time.perf_counter() - start)
    wall_s = min(walls[1:] or walls)
    lengths = np.array([row.length_tokens for row in data])
    shape = ModelShape.from_config(config(case).to_dict())
    flops = float(shape.sequence_cost(frozen_weights=case.mode == "lora").flops(lengths).sum())
    return {
        "rows": len(data), "tokens": int(lengths.sum()), "step_s": round(wall_s, 3),
        "tokens_per_s": round(float(lengths.sum()) / wall_s, 1), "mfu": share_of_peak(case, flops / wall_s),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if case.on_gpu else None,
        "parameters": shape.parameters,
    }  # fmt: skip


def share_of_peak(case: Case, flops_per_s: float) -> float | None:
    from longalign.train.parallel.placement import place
    from longalign.train.run_plan import peak_flops

    peak = peak_flops(place(settings_of(case, window=2)))
    return round(flops_per_s / peak, 4) if peak else None


def fits(case: Case, tokens: int) -> bool:
    import gc

    import torch

    gc.collect()  # the model of the probe before
    if case.on_gpu:
        torch.cuda.empty_cache()
    try:
        step_of(case, tokens, rows(tokens, tokens, config(case).vocab_size, longest=min(8192, tokens)))()
    except torch.OutOfMemoryError:
        return False
    return True


def reach(case: Case, most: int = 2**20) -> Measured:
    """Double until it does not fit, then halve the gap."""
    low, high = 0, case.window
    while high <= most and fits(case, high):
        low, high = high, 2 * high
    largest_tried = min(high, most)
    while low and high <= most and high - low > low // 8:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(case, middle) else (low, middle)
    return {"tokens_that_fit": low, "largest_tried": largest_tried}


def run(case: Case) -> Measured:
    import torch

    try:
        if case.what == "reach":
            return reach(case, most=2**20 if case.on_gpu else 4 * case.window)
        vocabulary, tokens = config(case).vocab_size, case.packs * case.window
        longest = case.window if case.what == "windows" else None
        data = rows(case.window, tokens, vocabulary, longest)
        return timed(case, case.window, data, repeats=1 if longest or not case.on_gpu else 2)
    except torch.OutOfMemoryError as error:
        return {"does_not_fit": str(error).split(". ")[0]}


if __name__ == "__main__":
    print(json.dumps(run(Case(**json.loads(sys.argv[sys.argv.index("--one") + 1])))))
