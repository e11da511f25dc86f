"""Claim: head and loss need 1/25 of the memory and half the time of full logits, whatever the length and vocabulary.

    python benchmarks/head_loss.py [--threads 1] [--repeats 3]

Measures forward and backward of the LM head with the weighted loss, float32 on CPU, hidden size 256: all logits at
once (what transformers does) against `longalign.train.loss.weighted_nll`; all positions as targets and one in ten;
then with the vocabulary and the length doubled. Every measurement is a process of its own. Memory is the process's
peak above what it held before the forward pass, gradients of hidden states and head included. Writes
`benchmarks/results/head_loss.json`.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "head_loss.json"
ROWS, VOCABULARY, HIDDEN = 16_384, 32_768, 256
CASES = {
    "full, all targets": ("full", ROWS, VOCABULARY, 1.0),
    "ours, all targets": ("ours", ROWS, VOCABULARY, 1.0),
    "full, 10% targets": ("full", ROWS, VOCABULARY, 0.1),
    "ours, 10% targets": ("ours", ROWS, VOCABULARY, 0.1),
    "ours, all targets, vocabulary doubled": ("ours", ROWS, 2 * VOCABULARY, 1.0),
    "ours, all targets, length doubled": ("ours", 2 * ROWS, VOCABULARY, 1.0),
}


def measure(method: str, rows: int, vocabulary: int, target_share: float, threads: int) -> dict[str, Any]:
    """One forward and backward in this process; resets the kernel's record of peak memory first."""
    import torch

    from longalign.train.loss import weighted_nll

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    hidden_TD = torch.randn(rows, HIDDEN, generator=generator).requires_grad_()
    head_VD = (torch.randn(vocabulary, HIDDEN, generator=generator) * HIDDEN**-0.5).requires_grad_()
    targets_T = torch.randint(0, vocabulary, (rows,), generator=generator)
    targets_T[torch.rand(rows, generator=generator) >= target_share] = -100
    weights_T = torch.rand(rows, generator=generator)
    small = torch.randn(64, HIDDEN, requires_grad=True)
    (small @ small.t()).logsumexp(1).sum().backward()  # libraries load and allocate on first use

    before = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    wall, cpu = time.perf_counter(), time.process_time()
    if method == "full":
        logits_TV = hidden_TD @ head_VD.t()
        nll_T = torch.nn.functional.cross_entropy(logits_TV, targets_T, reduction="none", ignore_index=-100)
        loss = (nll_T * weights_T).sum()
    else:
        loss, _ = weighted_nll(hidden_TD, head_VD, targets_T, weights_T)
    loss.backward()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    gradients_mib = (hidden_TD.numel() + head_VD.numel()) * 4 / 2**20
    peak = resident_mib("VmHWM") - before
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mib": peak,
        "peak_beyond_gradients_mib": peak - gradients_mib,
        "loss": loss.item(),
        "hidden_gradient_norm": hidden_TD.grad.norm().item(),
        "head_gradient_norm": head_VD.grad.norm().item(),
    }


def resident_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (peak) of this process; Linux."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def in_a_process(case: tuple[str, int, int, float], threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", json.dumps([*case, threads])]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def summarise(best: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Ratios of the two methods. CPU time is the one to compare on a shared machine; wall time is given beside it."""
    full, ours = best["full, all targets"], best["ours, all targets"]
    few_full, few = best["full, 10% targets"], best["ours, 10% targets"]
    return {
        "memory_ratio": full["peak_mib"] / ours["peak_mib"],
        "cpu_time_ratio": ours["cpu_s"] / full["cpu_s"],
        "wall_time_ratio": ours["wall_s"] / full["wall_s"],
        "memory_ratio_10_percent": few_full["peak_mib"] / few["peak_mib"],
        "cpu_time_ratio_10_percent": few["cpu_s"] / few_full["cpu_s"],
        "wall_time_ratio_10_percent": few["wall_s"] / few_full["wall_s"],
        "loss_relative_difference": abs(ours["loss"] / full["loss"] - 1),
        "head_gradient_norm_relative_difference": abs(ours["head_gradient_norm"] / full["head_gradient_norm"] - 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="", help="kept with the results, such as what else ran")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*json.loads(arguments.one))))
        return

    from longalign.base.machine import describe_machine

    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for _ in range(arguments.repeats):  # in turn, so that a busy minute does not meet one method only
        for name, case in CASES.items():
            runs[name].append(in_a_process(case, arguments.threads))
            last = runs[name][-1]
            print(
                f"{name:40} {last['wall_s']:7.2f} s  {last['cpu_s']:7.2f} s cpu  {last['peak_mib']:8.0f} MiB",
                flush=True,
            )
    best = {name: min(found, key=lambda run: run["cpu_s"]) for name, found in runs.items()}
    summary = summarise(best)
    for name, value in summary.items():
        print(f"{name:40} {value:.4g}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps(
            {
                "benchmark": "head_loss",
                "rows": ROWS,
                "vocabulary": VOCABULARY,
                "hidden": HIDDEN,
                "dtype": "float32",
                "threads": arguments.threads,
                "note": arguments.note,
                "best": best,
                "summary": summary,
                "runs": runs,
                "machine": describe_machine(),
            },
            indent=1,
        )
        + "\n"
    )
    print(f"wrote {RESULT}")


if __name__ == "__main__":
    main()
