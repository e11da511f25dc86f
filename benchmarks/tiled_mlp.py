"""Claim: computed in tiles, a layer's MLP no longer sets the layer's peak of memory; it costs one more forward pass.

    python -m benchmarks.tiled_mlp [--threads 1] [--repeats 3]

Forward and backward of one checkpointed Llama layer, float32 on CPU, on packs of 2,048-token segments: the MLP whole
and in tiles, two shapes of layer, then with the length doubled. Every measurement is a process of its own. Memory is
the process's peak above what it held before the forward pass. Writes `benchmarks/results/tiled_mlp.json`.
"""

from benchmarks.measure import Measured, run_cases, timed_with_peak, write_result

HIDDEN, SEGMENT, TILE = 256, 2_048, 2_048
CASES = {
    f"{tokens // 1024}k tokens, intermediate {width}, {'tiles' if tile else 'whole'}": (tokens, width, tile)
    for tokens, width in ((32_768, 1_024), (32_768, 2_048), (65_536, 1_024))
    for tile in (0, TILE)
}


def measure(tokens: int, intermediate: int, tile_tokens: int, threads: int) -> Measured:
    """One forward and backward in this process."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from longalign.train.attention import NAME, pack_kwargs, register
    from longalign.train.prepare import enable_checkpointing
    from longalign.train.tiled_mlp import tile_mlps

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    register()
    config = LlamaConfig(
        vocab_size=64, hidden_size=HIDDEN, intermediate_size=intermediate, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=1,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation=NAME).train()
    enable_checkpointing(model, offload=False)
    if tile_tokens:
        tile_mlps(model, tile_tokens)
    ids_1T = torch.randint(0, 64, (1, tokens))

    def run(count: int) -> float:
        positions_1T = torch.arange(count)[None] % SEGMENT
        packs = pack_kwargs(list(range(0, count + 1, SEGMENT)))
        hidden_1TD = model.model(input_ids=ids_1T[:, :count], position_ids=positions_1T, use_cache=False, **packs)[0]
        loss = hidden_1TD.square().mean()
        loss.backward()
        return float(loss.detach())

    run(SEGMENT)  # libraries load and allocate on first use
    model.zero_grad(set_to_none=True)
    loss, spent = timed_with_peak(lambda: run(tokens))
    norm = float(torch.cat([p.grad.flatten() for p in model.model.parameters()]).norm())
    return {**spent, "loss": loss, "gradient_norm": norm}


def main() -> None:
    claim = __doc__.split("\n")[0]
    freed_at_once = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}  # or the peak counts what malloc keeps
    found = run_cases("benchmarks.tiled_mlp", claim, CASES, measure, environment=freed_at_once)
    rows = [{"case": name, **best} for name, best in found.best.items()]
    for whole, tiled in zip(rows[::2], rows[1::2], strict=True):
        tiled["memory_ratio"] = tiled["peak_mib"] / whole["peak_mib"]
        tiled["cpu_time_ratio"] = tiled["cpu_s"] / whole["cpu_s"]
        tiled["gradient_norm_relative_difference"] = abs(tiled["gradient_norm"] / whole["gradient_norm"] - 1)
        print(f"{tiled['case']:40} memory x {tiled['memory_ratio']:.2f}, time x {tiled['cpu_time_ratio']:.2f}")
    write_result(
        "tiled_mlp", claim, rows, folder=found.asked.results, threads=found.asked.threads, hidden=HIDDEN,
        segment_tokens=SEGMENT, tile_tokens=TILE, dtype="float32", note=found.asked.note,
    )  # fmt: skip


if __name__ == "__main__":
    main()
