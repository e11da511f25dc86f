"""README.md of an exported model, for the hub: recipe, data and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longalign.base.machine import describe_machine
from longalign.config import LoopSettings
from longalign.data.mix import mix_table
from longalign.train.parallel import ranks


def model_card(what: str, settings: LoopSettings, summary: Mapping[str, Any], *, sources: Mapping[str, int]) -> str:
    """The card of a model that `summary` describes; `sources` counts sequences."""
    machine = describe_machine()
    base = str(getattr(settings, "model", "unknown"))
    values = settings.model_dump(mode="json")
    shown = [
        "window", "strategy", "weighting", "sequences_per_step", "optimizer", "learning_rate", "lr_scheduler_type",
        "warmup_ratio", "num_train_epochs", "seed", "dtype", "overlong", "train_on", "lora_rank", "lora_target_modules",
        "lora_modules_to_save", "lora_use_rslora", "lora_use_dora", "quantize",
    ]  # fmt: skip
    if values.get("lora_rank") is None:
        values = {key: value for key, value in values.items() if not key.startswith("lora_")}
    values = {key: ", ".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    recipe = "\n".join(f"| {key} | {values[key]} |" for key in shown if values.get(key) not in (None, ""))
    rows = "\n".join(f"| {name} | {count} |" for name, count in sources.items()) + mix_table(summary)
    heldout = summary.get("heldout")
    losses = ""
    if heldout:
        pairs = [(heldout["first"][kind], heldout["last"][kind]) for kind in ("all", "by_length", "by_source")]
        lines = [f"| {k} | {first[k]:.4f} | {last[k]:.4f} |" for first, last in pairs for k in last if k in first]
        losses = "\nHeld-out losses:\n\n| part | before | after |\n|---|---|---|\n" + "\n".join(lines) + "\n"
    hardware = ", ".join(machine["accelerators"]) or f"{machine['processor']}, {machine['cores']} cores"
    chosen = ""
    if best := summary.get("best"):
        chosen = f"\nThese are the weights of step {best['step']}, the best of {best['measured']} measured by "
        chosen += f"{best['by']}: {best['value']:.4g}. Training was planned for {summary['planned_steps']} steps.\n"
    check = summary["export"]
    same = "all of it by rounding" if check["holds"] else "**not by rounding: this is another model**"
    if check["in_4_bits"] and check["holds"]:
        same = "it trained beside weights in 4 bits"
    loss = f"{summary['final_loss']:.4f}" if summary.get("final_loss") is not None else "not measured"
    return f"""---
library_name: transformers
tags: [long-context, longalign]
---

# {base.rsplit("/", 1)[-1]} {what}

Made from `{base}` with [LongAlign](https://arxiv.org/abs/2401.18058)'s recipe. A plain transformers model:
`AutoModelForCausalLM.from_pretrained(DIR)`; chat template included. `config.json` says RoPE as `rope_parameters`
(transformers 5) and, where that can say it, as `rope_theta` and `rope_scaling` (transformers 4, older servers).

## Recipe

| setting | value |
|---|---|
{recipe}

## Data

{summary["sequences"]} sequences, {summary["epochs"]} epoch(s), {summary["steps"]} steps.

| source | sequences |
|---|---|
{rows}

## Measured

Training loss over the last ten steps: {loss}. {summary["target_tokens_per_s"]:,.0f} target tokens/s
({summary["tokens_per_s"]:,.0f} tokens/s) on {ranks.world_size()} process(es), {hardware}.
{chosen}{losses}
These files, loaded by plain transformers, against the model as it trained, on {check["targets"]} targets of
{check["rows"]} rows: loss {check["loss_exported"]:.4f} against {check["loss_trained"]:.4f}; log-probabilities differ by
{check["mean_difference"]:.2g} on average and {check["max_difference"]:.2g} at most ({check["dtype"]}; {same}).

Step plan `{summary["plan_hash"][:16]}`, commit `{machine["commit"] or "release"}`,
{", ".join(f"{k} {v}" for k, v in machine["versions"].items())}.
"""
