"""Training on one GPU at 64k and beyond, random weights in Qwen3's shapes: speed, memory, reach, and TRL beside it.

    python -m benchmarks.gpu_training speed      # 64k packs: tokens/s, MFU, peak memory, full and LoRA, and TRL's ratio
    python -m benchmarks.gpu_training windows    # one document of 64k, 128k, 256k, 512k, with the offload it takes
    python -m benchmarks.gpu_training reach      # most tokens of a microbatch that fit, by bisection
    python -m benchmarks.gpu_training speed --smoke    # a tiny shape on the CPU: shows that it works, no figures

Nothing is downloaded. Each part stays below `--minutes` (9): every case is a process of its own, in order of weight,
and cases for which no time is left are named as left out. Results go to `--results` (benchmarks/results), after every
case. A case that does not fit says so; what else goes wrong is kept as its error.

`reach` fills microbatches with segments of 8k: activations are linear in tokens and the kernels keep no scores, so
boundaries change the time of a step, not its memory. Its last probes are within an eighth of each other.
TRL packs with bfd, without padding, with Liger if that is installed; its attention is flash-attn if that is, else the
kernel that we registered, which takes TRL's segment boundaries: then the ratio is of all but attention.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, write_result
from longalign.base.machine import describe_machine
from longalign.config import TrainSettings
from longalign.core.hardware import MACHINES
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
OFFLOAD = {"activation_offload": True, "mlp_tile_tokens": 16384}
LORA_RANK = 16
LONG_STEP_S = 20.0  # beside which the second that a first step takes longer is nothing
HOST_BYTES = 18.0  # a parameter of a model whose float32 weights, gradients and moments lie in host memory


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


def cases(part: str, smoke: bool) -> list[Case]:
    """The cases of a part, the most telling first."""
    if smoke:
        more = {"activation_offload": True, "mlp_tile_tokens": 64, "cpu_offload": True}
        lora = Case(part, "tiny", "lora", 256, packs=2, on_gpu=False)
        ours = [lora, replace(lora, mode="full", settings=more)]
        return [*ours, replace(lora, side="trl")] if part == "speed" else ours
    if part == "speed":
        ours = [
            Case(part, s, m, 65536) for s, m in (("1.7b", "full"), ("8b", "lora"), ("4b", "lora"), ("0.6b", "full"))
        ]
        ours += [Case(part, "4b", "full", 65536, settings=OFFLOAD, packs=2)]
        ours += [Case(part, s, "full", 65536, settings=OFFLOAD | {"cpu_offload": True}, packs=1) for s in ("4b", "8b")]
        return [replace(case, side=side) for case in ours for side in ("longalign", "trl")[: 1 if case.settings else 2]]
    if part == "windows":
        sizes = [("1.7b", "full", 131072), ("8b", "lora", 65536), ("1.7b", "full", 262144), ("8b", "lora", 131072),
                 ("0.6b", "lora", 524288), ("4b", "lora", 262144), ("4b", "full", 131072)]  # fmt: skip
        return [Case(part, s, m, w, settings=OFFLOAD, packs=1) for s, m, w in sizes]
    return [
        Case(part, s, m, 65536, settings=how)
        for s, m, how in (("8b", "lora", OFFLOAD), ("1.7b", "full", OFFLOAD), ("8b", "lora", {}), ("1.7b", "full", {}))
    ]


# --- one case, in its own process ---------------------------------------------------------------------------------


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


def timed(case: Case, window: int, data: list[TokenSequence], repeats: int) -> dict[str, Any]:
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
        "tokens_per_s": round(float(lengths.sum()) / wall_s, 1), "mfu": share_of_peak(flops / wall_s),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if case.on_gpu else None,
        "parameters": shape.parameters,
    }  # fmt: skip


def share_of_peak(flops_per_s: float) -> float | None:
    from longalign.train.run_plan import peak_flops

    peak = peak_flops()
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


def reach(case: Case, most: int = 2**20) -> dict[str, Any]:
    """Double until it does not fit, then halve the gap."""
    low, high = 0, case.window
    while high <= most and fits(case, high):
        low, high = high, 2 * high
    largest_tried = min(high, most)
    while low and high <= most and high - low > low // 8:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(case, middle) else (low, middle)
    return {"tokens_that_fit": low, "largest_tried": largest_tried}


def run(case: Case) -> dict[str, Any]:
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


# --- all cases ----------------------------------------------------------------------------------------------------


def in_process(case: Case, seconds: float) -> dict[str, Any]:
    """The case in a process of its own, which may run out of memory, hang or crash."""
    command = [sys.executable, "-m", "benchmarks.gpu_training", "case", "--case", json.dumps(asdict(case))]
    environment = os.environ | {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "TOKENIZERS_PARALLELISM": "false"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {seconds:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": "; ".join(done.stderr.strip().splitlines()[-3:])[-600:] or f"exit {done.returncode}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def reason_against(case: Case, seconds_left: float) -> str | None:
    """Why a case is not tried. Too little host memory would end more than the case."""
    if case.side == "trl" and not find_spec("trl"):
        return "trl is not installed"
    if seconds_left < 20:
        return "no time is left"
    host_gib = describe_machine()["memory_gib"] or 0
    if case.settings.get("cpu_offload") and case.on_gpu:
        needed_gib = HOST_BYTES * ModelShape.from_config(config(case).to_dict()).parameters / 2**30
        if needed_gib > host_gib:
            return f"needs {needed_gib:.0f} GiB of host memory, here are {host_gib:.0f}"
    return None


def ratios(done: list[dict[str, Any]]) -> dict[str, float]:
    """Our tokens/s over TRL's, for each pair that was measured."""
    speed = {(row["side"], row["shape"], row["mode"]): row.get("tokens_per_s") for row in done if not row["settings"]}
    pairs = {(s, m): (speed.get(("longalign", s, m)), speed.get(("trl", s, m))) for _, s, m in speed}
    return {f"{s} {m}": round(ours / theirs, 3) for (s, m), (ours, theirs) in pairs.items() if ours and theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("speed", "windows", "reach", "case"))
    parser.add_argument("--smoke", action="store_true", help="a tiny shape on the CPU")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part == "case":
        print(json.dumps(run(Case(**json.loads(asked.case)))))
        return
    import torch

    if not asked.smoke and not torch.cuda.is_available():
        sys.exit("no CUDA device here, so there is nothing to measure; --smoke proves on the CPU that the script works")
    end = time.monotonic() + 60 * asked.minutes
    done: list[dict[str, Any]] = []
    for case in (c for c in cases(asked.part, asked.smoke) if asked.only in c.name):
        left = end - time.monotonic()
        why = reason_against(case, left)
        found = {"left_out": why} if why else in_process(case, left)
        done.append(asdict(case) | found)
        print(case.name, json.dumps(found), flush=True)
        write_result(
            f"gpu_training_{asked.part}{'_smoke' if asked.smoke else ''}",
            "at least 1.2 times TRL's tokens/s at 64k, and half of the GPU's peak at 8B (issue C)",
            done, folder=asked.results, over_trl=ratios(done), peaks={n: m.peak_flops for n, m in MACHINES.items()},
        )  # fmt: skip
    if any("error" in row for row in done):
        sys.exit("some cases failed, see `error` in the result")


if __name__ == "__main__":
    main()
