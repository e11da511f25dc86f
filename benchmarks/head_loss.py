"""Claim: head and loss need 1/25 of the memory and half the time of full logits, whatever the length and vocabulary.

    python -m benchmarks.head_loss [--threads 1] [--repeats 3]

Measures forward and backward of the LM head with the weighted loss, float32 on CPU, hidden size 256: all logits at
once (what transformers does) against `longalign.train.loss.weighted_nll`; all positions as targets and one in ten;
then with the vocabulary and the length doubled. Every measurement is a process of its own. Memory is the process's
peak above what it held before the forward pass, gradients of hidden states and head included. Writes
`benchmarks/results/head_loss.json`.
"""

from benchmarks.measure import Measured, run_cases, timed_with_peak, write_result

ROWS, VOCABULARY, HIDDEN = 16_384, 32_768, 256
CASES = {
    "full, all targets": ("full", ROWS, VOCABULARY, 1.0),
    "ours, all targets": ("ours", ROWS, VOCABULARY, 1.0),
    "full, 10% targets": ("full", ROWS, VOCABULARY, 0.1),
    "ours, 10% targets": ("ours", ROWS, VOCABULARY, 0.1),
    "ours, all targets, vocabulary doubled": ("ours", ROWS, 2 * VOCABULARY, 1.0),
    "ours, all targets, length doubled": ("ours", 2 * ROWS, VOCABULARY, 1.0),
}


def measure(method: str, rows: int, vocabulary: int, target_share: float, threads: int) -> Measured:
    """One forward and backward in this process."""
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

    def run() -> float:
        if method == "full":
            logits_TV = hidden_TD @ head_VD.t()
            nll_T = torch.nn.functional.cross_entropy(logits_TV, targets_T, reduction="none", ignore_index=-100)
            loss = (nll_T * weights_T).sum()
        else:
            loss, _ = weighted_nll(hidden_TD, head_VD, targets_T, weights_T)
        loss.backward()
        return float(loss.detach())

    loss, spent = timed_with_peak(run)
    gradients_mib = (hidden_TD.numel() + head_VD.numel()) * 4 / 2**20
    return {
        **spent,
        "peak_beyond_gradients_mib": spent["peak_mib"] - gradients_mib,
        "loss": loss,
        "hidden_gradient_norm": hidden_TD.grad.norm().item(),
        "head_gradient_norm": head_VD.grad.norm().item(),
    }


def summarise(best: dict[str, Measured]) -> dict[str, float]:
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
    claim = __doc__.split("\n")[0]
    found = run_cases("benchmarks.head_loss", claim, CASES, measure)
    summary = summarise(found.best)
    for name, value in summary.items():
        print(f"{name:40} {value:.4g}")
    rows = [{"case": name, **best} for name, best in found.best.items()]
    write_result(
        "head_loss", claim, rows, folder=found.asked.results, summary=summary, runs=found.runs,
        threads=found.asked.threads, positions=ROWS, vocabulary=VOCABULARY, hidden=HIDDEN, dtype="float32",
        note=found.asked.note,
    )  # fmt: skip


if __name__ == "__main__":
    main()
