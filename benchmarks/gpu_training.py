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
`benchmarks/gpu_case.py` is one case, and says how TRL runs beside us.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.gpu_case import Case, config
from benchmarks.measure import RESULTS, Measured, in_process, write_result
from longalign.base.machine import describe_machine
from longalign.core.hardware import MACHINES
from longalign.core.model_shape import ModelShape

OFFLOAD = {"activation_offload": True, "mlp_tile_tokens": 16384}
HOST_BYTES = 18.0  # a parameter of a model whose float32 weights, gradients and moments lie in host memory


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


def measured(case: Case, seconds: float) -> Measured:
    """The case in a process of its own, which may run out of memory, hang or crash."""
    environment = {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "TOKENIZERS_PARALLELISM": "false"}
    try:
        return in_process("benchmarks.gpu_case", asdict(case), environment=environment, timeout_s=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {seconds:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"error": "; ".join(error.stderr.strip().splitlines()[-3:])[-600:] or f"exit {error.returncode}"}


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
    parser.add_argument("part", choices=("speed", "windows", "reach"))
    parser.add_argument("--smoke", action="store_true", help="a tiny shape on the CPU")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    asked = parser.parse_args()
    import torch

    if not asked.smoke and not torch.cuda.is_available():
        sys.exit("no CUDA device here, so there is nothing to measure; --smoke proves on the CPU that the script works")
    end = time.monotonic() + 60 * asked.minutes
    done: list[dict[str, Any]] = []
    for case in (c for c in cases(asked.part, asked.smoke) if asked.only in c.name):
        left = end - time.monotonic()
        why = reason_against(case, left)
        found = {"left_out": why} if why else measured(case, left)
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
