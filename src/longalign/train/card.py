"""The model card of a trained model: recipe, data and what was measured, as Markdown for the hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longalign.config import LoopSettings
from longalign.machine import describe_machine
from longalign.train import ranks


def model_card(what: str, settings: LoopSettings, summary: Mapping[str, Any], *, sources: Mapping[str, int]) -> str:
    """README.md of the exported directory."""
    machine = describe_machine()
    base = str(getattr(settings, "model", "unknown"))
    values = settings.model_dump(mode="json")
    shown = [
        "window", "strategy", "weighting", "sequences_per_step", "optimizer", "learning_rate", "lr_scheduler_type",
        "warmup_ratio", "num_train_epochs", "seed", "dtype", "overlong", "train_on", "lora_rank", "quantize",
    ]  # fmt: skip
    recipe = "\n".join(f"| {key} | {values[key]} |" for key in shown if values.get(key) is not None)
    rows = "\n".join(f"| {name} | {count} |" for name, count in sources.items())
    heldout = summary.get("heldout")
    losses = ""
    if heldout:
        pairs = [(heldout["first"][kind], heldout["last"][kind]) for kind in ("all", "by_length", "by_source")]
        lines = [f"| {k} | {first[k]:.4f} | {last[k]:.4f} |" for first, last in pairs for k in last if k in first]
        losses = "\nHeld-out losses:\n\n| part | before | after |\n|---|---|---|\n" + "\n".join(lines) + "\n"
    hardware = ", ".join(machine["accelerators"]) or f"{machine['processor']}, {machine['cores']} cores"
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
({summary["tokens_per_s"]:,.0f} tokens/s) on {ranks.count()} process(es), {hardware}.
{losses}
Step plan `{summary["plan_hash"][:16]}`, commit `{machine["commit"] or "release"}`,
{", ".join(f"{k} {v}" for k, v in machine["versions"].items())}.
"""
