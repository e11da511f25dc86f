"""The whole path on one CPU thread, as a person walks it: random weights to a model that plain transformers loads.

    python -m benchmarks.end_to_end [--out runs/end-to-end]

For a Qwen3 and a Llama shape of a few million parameters, through the command line only: extend from 1k to 16k, train
all weights (`kill -9` on the way, then the same command again) and LoRA on rows of 8k-16k tokens and short ones, ask
needles at 1k-8k, write the page; then load both exports in a process that has never heard of LongAlign.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import write_result
from longalign.base.files import random_for, read_jsonl
from longalign.base.sources import model_dir
from longalign.bundled.rows import passage, rows

SHAPES = ("qwen3", "llama")
CHARACTERS_PER_TOKEN = 3.2
PLAIN = Path(__file__).with_name("plain_transformers.py")


@dataclass(frozen=True)
class Size:
    """How much of everything; the test takes less. Windows and lengths in tokens."""

    hidden: int = 192
    layers: int = 4
    trained_window: int = 1024
    window: int = 16384
    documents: int = 12
    extend_steps: int = 2
    train_steps: int = 5
    short_rows_a_step: int = 9
    save_steps: int = 1
    heldout_long: int = 1
    heldout_short: int = 16
    needle_lengths: tuple[int, ...] = (1024, 2048, 4096, 8192)


def walk(shape: str, size: Size, out: Path) -> dict[str, Any]:
    """Everything for one shape, in `out`; what was measured, by stage."""
    found = train_all(shape, size, out)
    for name in ("full", "lora"):
        found[name]["plain_transformers"] = plain(out / name / "final", out / "inputs" / "heldout_long.jsonl")
        needle, run = longalign(
            *("eval", "needle", "--model", out / name / "final", "--label", f"{shape} {name}"),
            *("--form", "register", "--lengths", ",".join(map(str, size.needle_lengths)), "--depths", 2),
            out=out / "eval" / name,
        )
        right = {length: [row["right"], row["questions"]] for length, row in needle["by_length"].items()}
        found[name] |= {"needles_right_of": right, "needles_wall_s": run["wall_s"]}
    longalign("report", out, out=out / "report.html")
    return found


def train_all(shape: str, size: Size, out: Path) -> dict[str, Any]:
    """Extend a random model, train it whole (killed once) and with adapters: `out/{extend,full,lora}`."""
    base = out / "base"
    found: dict[str, Any] = {"shape": shape, "parameters": make_model(shape, size, base)}
    files = make_inputs(size, base, out / "inputs")
    muon = ["--optimizer", "muon", "--learning_rate", 3e-3, "--muon_learning_rate", 0.02]
    extended, run = longalign(
        *("extend", "--model", base, "--text", files["documents"], "--window", size.window, "--rope-base-factor", 200),
        *(*muon, "--sequences_per_step", 3, "--max-steps", size.extend_steps, "--warmup_ratio", 0),
        out=out / "extend",
    )
    found["extend"] = speed(extended, run) | {"perplexity_by_position": extended["perplexity_by_position"]}
    sft = [
        *("train", "--model", out / "extend" / "final", "--data", files["long"], "--data", files["short"]),
        *("--eval-data", files["heldout_long"], "--eval-data", files["heldout_short"], "--window", size.window),
        *("--num_train_epochs", 1, "--sequences_per_step", 1 + size.short_rows_a_step, "--warmup_ratio", 0),
    ]
    whole = [*sft, *muon, "--save_steps", size.save_steps]
    metrics = out / "full" / "metrics.jsonl"
    longalign(*whole, out=out / "full", kill_when=lambda: steps_in(metrics) > size.save_steps)
    killed_after = steps_in(metrics)
    trained, run = longalign(*whole, out=out / "full")
    resumed = re.search(r"resuming at step (\d+)", run["stderr"])
    found["full"] = speed(trained, run) | heldout(trained)
    found["full"] |= {"killed_after_step": killed_after, "resumed_at_step": int(resumed[1]) if resumed else None}
    adapted, run = longalign(*sft, "--lora_rank", 8, "--learning_rate", 5e-3, out=out / "lora")
    found["lora"] = speed(adapted, run) | heldout(adapted)
    return found


def make_model(shape: str, size: Size, folder: Path) -> int:
    """A model directory as people have them: random weights, the demo's tokenizer and template; returns parameters."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen3Config

    tokenizer = AutoTokenizer.from_pretrained(model_dir("builtin:tiny-base"))
    config = {"qwen3": Qwen3Config, "llama": LlamaConfig}[shape](
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=2 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=size.trained_window,
        tie_word_embeddings=shape == "qwen3",  # as in their small models
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(model.num_parameters())


def make_inputs(size: Size, tokenizer: Path, folder: Path) -> dict[str, Path]:
    """Documents of up to the window; rows to train on and to hold out: long (half the window or more) and short."""
    from transformers import AutoTokenizer

    encode = AutoTokenizer.from_pretrained(tokenizer)

    def fits(row: dict[str, Any]) -> bool:
        tokens = len(encode.apply_chat_template(row["messages"], return_dict=True)["input_ids"])
        return size.window // 2 <= tokens <= size.window

    files = {name: folder / f"{name}.jsonl" for name in ("long", "short", "heldout_long", "heldout_short")}
    long_rows = filter(fits, rows(f"builtin:recall-{size.window}-1000"))
    short_rows = rows("builtin:chat-0-1000")
    wanted = {
        "long": (long_rows, size.train_steps),
        "short": (short_rows, size.train_steps * size.short_rows_a_step),
        "heldout_long": (long_rows, size.heldout_long),
        "heldout_short": (short_rows, size.heldout_short),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (found, count) in wanted.items():
        chosen = [next(found) | {"source": name.removeprefix("heldout_")} for _ in range(count)]
        files[name].write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    files["documents"] = folder / "documents"
    files["documents"].mkdir(exist_ok=True)
    for number in range(size.documents):
        characters = int(size.window * CHARACTERS_PER_TOKEN * (number + 1) / size.documents)
        text = passage(random_for(0, "end to end", number), "en", characters)
        (files["documents"] / f"{number}.txt").write_text(text, encoding="utf-8")
    return files


def longalign(
    *arguments: object, out: Path, kill_when: Callable[[], bool] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One command in a process of its own: its summary, and `wall_s`, `cpu_s`, `peak_rss_gib`, `stderr`.

    With `kill_when` the process gets SIGKILL as soon as that holds, and the summary is empty.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    said, told = out.parent / f".{out.name}.stdout", out.parent / f".{out.name}.stderr"
    command = [sys.executable, "-m", "longalign", *map(str, arguments), "--out", str(out), "--json"]
    start = time.monotonic()
    with said.open("w") as stdout, told.open("w") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1"})
        ended, killed = 0, False
        while not ended:
            if kill_when and not killed and kill_when():
                os.kill(process.pid, signal.SIGKILL)
                killed = True
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(status)
    run = {
        "wall_s": round(time.monotonic() - start, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_rss_gib": round(used.ru_maxrss / 2**20, 2),
        "stderr": told.read_text(encoding="utf-8"),
    }
    if killed:
        return {}, run
    if status or kill_when:
        raise SystemExit(f"{' '.join(command)}\nended with {status}\n{run['stderr']}")
    return json.loads(said.read_text(encoding="utf-8")), run


def plain(model: Path, rows_file: Path) -> dict[str, Any]:
    """What a process without LongAlign finds in an export: its loss on the rows, and an answer."""
    command = [sys.executable, str(PLAIN), str(model), str(rows_file)]
    done = subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return dict(json.loads(done.stdout))


def steps_in(metrics: Path) -> int:
    """Steps that a training run has logged."""
    return sum("loss" in row for row in read_jsonl(metrics))


def speed(summary: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Steps, losses, seconds and memory of a stage."""
    kept = ("steps", "sequences", "final_loss", "train_s", "tokens_per_s", "target_tokens_per_s")
    tokens = {"tokens": summary["data"]["tokens"]}
    return {k: summary[k] for k in kept} | tokens | {k: run[k] for k in ("wall_s", "cpu_s", "peak_rss_gib")}


def heldout(summary: dict[str, Any]) -> dict[str, Any]:
    """Losses on the held-out long and short rows, before and after."""
    return {
        f"heldout_{when}": summary["heldout"][at]["by_source"] for when, at in (("before", "first"), ("after", "last"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/end-to-end"))
    out: Path = parser.parse_args().out
    size, start = Size(), time.monotonic()
    found = [walk(shape, size, out / shape) for shape in SHAPES]
    claim = (
        "Random-weight Qwen3 and Llama shapes go from 1k to 16k, through full and LoRA training on rows of 8k-16k "
        "tokens with a kill -9, to exports that plain transformers loads with the same held-out loss"
    )
    write_result("end_to_end", claim, found, size=asdict(size), wall_s=round(time.monotonic() - start, 1))


if __name__ == "__main__":
    main()
