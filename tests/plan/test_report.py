"""The verb `plan`: one report from lengths, rows or a token store, before anything is spent."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import longalign
from longalign.config import PlanSettings
from longalign.config.load import build
from longalign.core.step_plan import StepPlan
from longalign.core.strategies import STRATEGIES
from longalign.data.store import Encoded, Item, build_store
from longalign.data.tokenize import TokenSequence
from longalign.errors import ConfigError, DataError, PlanError
from longalign.plan.report import model_shape, plan
from longalign.plan.text import plan_summary
from tests.core.mixes import longalign_mix, targets_for
from tests.makers.tokenizers import whole_words, with_template

CONTRACT = (
    "strategy", "sequences", "dropped", "steps", "packs", "pack_efficiency", "idle_fraction", "speedup_over_padded",
    "layout", "plan_hash", "plan_seconds",
)  # fmt: skip


KEYS_OF_VERSION_1 = {
    "strategy", "sequences", "sequences_without_targets", "dropped", "overlong_rule", "row_counts", "lengths_from",
    "epochs", "steps", "packs", "packs_lower_bound", "pack_efficiency", "microbatch_fill", "padding_tokens",
    "sequences_per_pack", "sequences_per_step", "tokens", "targets", "idle_fraction", "idle_fraction_by_sync",
    "communication_fraction", "padding_fraction", "useful_fraction", "flops", "mfu", "step_seconds", "hours",
    "speedup_over_padded", "layout", "layouts", "sequence_parallel", "token_limit", "window", "ranks", "model_shape",
    "parameters", "machine", "memory", "by_length", "by_source", "weighting", "length_bias", "seed", "plan_hash",
    "sampling_hash", "plan_seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lengths")
    lengths = longalign_mix(4_000)
    np.save(folder / "lengths.npy", lengths)
    np.save(folder / "targets.npy", targets_for(lengths, without_share=0.01))
    return folder


def report(files, out=None, **changes):
    given = {"lengths": str(files / "lengths.npy"), "targets": str(files / "targets.npy"), "ranks": 8} | changes
    return plan_summary(plan(PlanSettings(**given), out))


@pytest.fixture(scope="module")
def reports(files):
    return {strategy: report(files, strategy=strategy) for strategy in STRATEGIES}


def test_every_strategy_reports_what_the_contract_names(reports):
    for strategy, found in reports.items():
        assert [key for key in CONTRACT if key not in found] == []
        assert found["strategy"] == strategy
        assert found["sequences"] == 4_000
        assert found["dropped"] == 0
        json.dumps(found, allow_nan=False)
        shares = [found[f"{name}_fraction"] for name in ("useful", "idle", "communication", "padding")]
        assert sum(shares) == pytest.approx(1.0, abs=1e-9)
        assert found["text"].splitlines()[0].startswith("strategy")


def test_the_strategies_stand_in_the_order_the_paper_and_the_simulation_give(reports):
    speed = {strategy: found["speedup_over_padded"] for strategy, found in reports.items()}
    assert speed["padded"] == 1.0
    assert speed["packed"] > 3
    assert speed["balanced"] > speed["packed"]
    assert reports["balanced"]["idle_fraction"] <= 0.01
    assert reports["balanced"]["layout"].startswith("sp")
    assert reports["packed"]["pack_efficiency"] >= 0.995
    assert reports["packed"]["packs"] <= reports["packed"]["packs_lower_bound"] + 1
    assert reports["sorted"]["length_bias"]["variance_ratio"] > 50
    assert reports["balanced"]["length_bias"]["variance_ratio"] < 2


def test_gradient_shares_show_what_each_weighting_favours(reports):
    found = reports["balanced"]
    for group in ("by_length", "by_source"):
        for mode in ("sequence", "token", "sqrt", "plain_packing"):
            assert sum(row["gradient_share"][mode] for row in found[group]) == pytest.approx(1.0, abs=1e-9)
    without = found["sequences_without_targets"]
    assert without > 0
    for row in found["by_length"]:
        counted = row["sequences"] / 4_000
        assert row["gradient_share"]["sequence"] == pytest.approx(counted, abs=2 * without / 4_000)


def test_the_plan_file_of_the_report_is_the_plan(files, tmp_path):
    found = report(files, tmp_path / "out", strategy="balanced", num_train_epochs=2)
    loaded = StepPlan.load(tmp_path / "out" / "plan.npz")
    assert loaded.hash == found["plan_hash"]
    assert len(loaded) == found["steps"]
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["plan_hash"] == found["plan_hash"]
    svg = ET.fromstring((tmp_path / "out" / "packs.svg").read_text())
    assert svg.tag.endswith("svg")


def test_the_file_keeps_the_keys_of_earlier_ones_and_says_its_version(files, tmp_path):
    found = report(files, tmp_path, strategy="packed")
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written.keys() == KEYS_OF_VERSION_1 | {"schema"}
    assert written == {key: value for key, value in found.items() if key != "text"}
    assert written["memory"].keys() >= {"tokens_per_rank", "bytes_per_rank", "parts", "fits", "largest_window", "with"}
    assert written["length_bias"].keys() == {"variance_ratio", "standard_error", "within_step_correlation"}


def test_rows_above_the_window_are_shortened_split_or_dropped_and_counted(files):
    lengths = longalign_mix(4_000)
    over = int((lengths > 32768).sum())
    shortened = report(files, window=32768)
    assert (shortened["sequences"], shortened["dropped"]) == (4_000, 0)
    assert shortened["row_counts"]["shortened"] == over
    dropped = report(files, window=32768, overlong="drop")
    assert (dropped["sequences"], dropped["dropped"]) == (4_000 - over, over)
    split = report(files, window=32768, overlong="split")
    targets = np.load(files / "targets.npy")
    no_room = (lengths > 32768) & (32768 - (lengths - targets) < 32768 // 4)
    assert split["dropped"] == int(no_room.sum()) > 0, "no room beside their prompts"
    assert split["targets"] == int(targets[~no_room].sum()), "every other target is trained once"
    assert "rows treated before planning" in split["text"]


def rows_file(path, *, stated=True):
    rows = []
    for number in range(40):
        row = {
            "id": str(number),
            "source": "books" if number % 4 == 0 else "chats",
            "messages": [
                {"role": "user", "content": "word " * (30 + number)},
                {"role": "assistant", "content": "yes " * 10},
            ],
        }
        rows.append(row | ({"length_tokens": 50 + number} if stated else {}))
    rows.append({"id": "empty", "source": "chats", "messages": [{"role": "user", "content": "hello"}]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (str(path),)


def test_rows_that_state_their_length_are_planned_by_source_and_estimates_say_so(tmp_path):
    asked = PlanSettings(data=rows_file(tmp_path / "rows.jsonl"), window=128, sequences_per_step=8, model_shape="tiny")
    found = plan_summary(plan(asked))
    assert found["sequences"] == 40
    assert found["dropped"] == 1
    assert {row["name"]: row["sequences"] for row in found["by_source"]} == {"books": 10, "chats": 30}
    assert "estimated" in found["lengths_from"]
    assert 0 < found["targets"] < found["tokens"]
    assert "Share of the gradient by source" in found["text"]


def test_rows_without_lengths_ask_for_a_tokenizer(tmp_path):
    with pytest.raises(DataError, match="add --tokenizer"):
        plan(PlanSettings(data=rows_file(tmp_path / "rows.jsonl", stated=False)))


def test_a_token_store_is_planned_as_it_is(tmp_path):
    def encode(value: tuple[int, int, str]) -> Encoded:
        length, targets, source = value
        sequence = TokenSequence(np.zeros(length, np.int32), np.arange(length) >= length - targets)
        return [(sequence, {"source": source})], Counter()

    rows = [Item("row", value) for value in ((5, 2, "a"), (9, 0, "b"), (4, 3, "a"))]
    build_store(tmp_path / "tokens", [rows], encode, key="k")
    found = plan(PlanSettings(data=(str(tmp_path / "tokens"),), window=16, model_shape="tiny", machine="cpu")).as_dict()
    assert (found["sequences"], found["tokens"], found["targets"]) == (3, 18, 5)
    assert found["sequences_without_targets"] == 1
    assert [row["name"] for row in found["by_source"]] == ["a", "b"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    template = "{% for m in messages %}{{ m.role }} {{ m.content }} <|end|> {% endfor %}"
    core = whole_words(["word yes"], control=["<unk>", "<|end|>"], stops_apart=False)
    fast = with_template(core, template, eos_token="<|end|>", unk_token="<unk>")
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return str(folder)


def test_rows_are_tokenised_as_training_would(tmp_path, tokenizer):
    from longalign.data.to_tokens import RowEncoder

    data = rows_file(tmp_path / "rows.jsonl", stated=False)
    found = plan(
        PlanSettings(data=data, tokenizer=tokenizer, window=64, sequences_per_step=8, model_shape="tiny")
    ).as_dict()
    row = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
    [(sequence, _)], _ = RowEncoder(tokenizer, 64)(row)
    assert found["sequences"] == 40
    assert found["targets"] == 40 * sequence.target_count
    assert found["row_counts"]["shortened"] > 0
    assert tokenizer in found["lengths_from"]


def test_rows_are_tokenised_with_the_template_and_turns_of_training(tmp_path, tokenizer):
    data = rows_file(tmp_path / "rows.jsonl", stated=False)
    (tmp_path / "template.jinja").write_text("{% for m in messages %}{{ m.content }} <|end|> {% endfor %}")
    asked = {"data": data, "tokenizer": tokenizer, "window": 128, "sequences_per_step": 8, "model_shape": "tiny"}
    whole = plan(PlanSettings(**asked)).rows
    bare = plan(PlanSettings(**asked, chat_template=str(tmp_path / "template.jinja"))).rows
    assert whole.tokens - bare.tokens == 40 * 2, "two roles a row"


def test_memory_and_largest_window_are_predicted(files):
    found = report(files, model_shape="70b", ranks=8)
    assert not found["memory"]["fits"]
    assert "DOES NOT FIT" in found["text"]
    fits = report(files, model_shape="8b", machine="h200")["memory"]
    assert fits["fits"]
    assert fits["largest_window"]["sp8xdp1"] == 8 * fits["largest_window"]["dp8"] > 65536
    parts = fits["parts"]
    steady = parts["states"] + parts["weights_in_use"] + parts["checkpoints"] + parts["reserve"]
    assert fits["bytes_per_rank"] == pytest.approx(steady + max(parts["layer"], parts["head"]))
    assert parts["host"] == 0


def test_what_would_hold_a_longer_window_is_shown_with_what_it_asks_of_the_host(files):
    asked = {"model_shape": "8b", "machine": "h200", "ranks": 1, "sequence_parallel": 1}
    found = report(files, **asked)
    rows = {name: row["largest_window"]["dp1"] for name, row in found["memory"]["with"].items()}
    full = [rows[name] for name in ("MLP in tiles", "... and activations on the host", "... and weights on the host")]
    assert sorted(full) == full
    assert full[-1] > 262_144, "full parameters of 8B on one H200"
    assert rows["LoRA, tiles, activations on host"] > 524_288
    assert rows["QLoRA"] > rows["LoRA"] > found["memory"]["largest_window"]["dp1"]
    host = {name: row["host_bytes_per_rank"] for name, row in found["memory"]["with"].items()}
    assert host["LoRA"] == host["MLP in tiles"] == 0
    assert host["... and weights on the host"] > 16 * found["parameters"]
    assert all(name in found["text"] for name in rows)
    offloaded = report(files, **asked, cpu_offload=True, activation_offload=True)
    assert offloaded["memory"]["parts"]["host"] > 16 * offloaded["parameters"]
    assert "GB of host memory" in offloaded["text"]


def test_4_bit_weights_are_whole_on_each_rank_and_never_offloaded(files):
    def windows(**asked):
        memory = report(files, model_shape="8b", **asked)["memory"]
        rows = {name: row["largest_window"]["dp8"] for name, row in memory["with"].items()}
        return memory["largest_window"]["dp8"], rows

    lora, quantised = {"lora_rank": 16}, {"lora_rank": 16, "quantize": "4bit"}
    _, rows = windows(**lora)
    asked, others = windows(**quantised)
    assert asked == rows["QLoRA"]
    assert others["QLoRA, tiles, activations on host"] == rows["QLoRA, tiles, activations on host"]
    for name in ("LoRA, tiles, activations on host", "... and weights on the host"):
        assert others[name] == rows[name], f"{name}: not in 4 bits"
    assert others["LoRA"] == windows(**lora)[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quantize": "4bit", "lora_rank": 4, "parallel": "deepspeed"}, "quantize: deepspeed cannot split 4-bit"),
        (
            {"quantize": "4bit", "lora_rank": 4, "cpu_offload": True},
            "quantize: cpu_offload does not keep 4-bit weights",
        ),
        ({"cpu_offload": True, "parallel": "ddp"}, "cpu_offload: parallel ddp cannot offload"),
        ({"weighting": "plain_packing"}, "weighting plain_packing needs strategy packed: the packs of 'balanced'"),
    ],
)
def test_what_no_training_could_run_is_not_planned(changes, words):
    with pytest.raises(ConfigError, match=words):
        build(PlanSettings, changes, "plan")


def test_a_fixed_layout_is_kept_and_an_impossible_one_refused(files):
    assert report(files, sequence_parallel=2)["layout"] == "sp2xdp4"
    assert report(files, sequence_parallel=1)["layout"] == "dp8"
    with pytest.raises(PlanError, match="8 ranks cannot be split into groups of 3"):
        report(files, sequence_parallel=3)


def test_shapes_come_from_names_files_and_directories(tmp_path):
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 99,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_shape(str(tmp_path)).parameters == model_shape(str(tmp_path / "config.json")).parameters
    assert model_shape(str(tmp_path)).vocabulary == 99
    with pytest.raises(ConfigError, match="no directory"):
        model_shape("900b")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not a readable"):
        model_shape(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lengths": None, "targets": None}, "give either --lengths"),
        ({"lengths": "nowhere.npy"}, "nowhere.npy: cannot be read"),
        ({"machine": "abacus"}, "unknown 'abacus'"),
    ],
)
def test_unusable_input_is_named(files, changes, words):
    with pytest.raises((ConfigError, DataError), match=words):
        report(files, **changes)


def test_bad_arrays_are_refused_with_file_and_row(tmp_path):
    def run(lengths, targets=None):
        np.save(tmp_path / "l.npy", np.array(lengths))
        if targets is not None:
            np.save(tmp_path / "t.npy", np.array(targets))
        plan(
            PlanSettings(lengths=str(tmp_path / "l.npy"), targets=None if targets is None else str(tmp_path / "t.npy"))
        )

    for lengths, targets, words in (
        ([3, 0], None, r"l.npy: row 1 has 0 tokens"),
        ([1.5], None, r"l.npy: lengths must be a flat array of whole numbers"),
        ([], None, r"l.npy"),
        ([3, 4], [1], r"t.npy: 1 target counts for 2 lengths"),
        ([3, 4], [1, 5], r"t.npy: row 1 has 5 targets in 4 tokens"),
    ):
        with pytest.raises(DataError, match=words):
            run(lengths, targets)


def test_core_needs_only_numpy_and_scipy():
    code = (
        "import sys, importlib, pkgutil, longalign.core as core\n"
        "for module in pkgutil.iter_modules(core.__path__): importlib.import_module('longalign.core.' + module.name)\n"
        "import longalign.plan.picture\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'rich', 'typer', 'openai'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"OMP_NUM_THREADS": "1"})


def test_the_python_of_the_guide_runs_and_says_what_its_comments_say(tmp_path, monkeypatch):
    guide = Path(__file__).parents[2] / "docs" / "guide" / "plan.md"
    [code] = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["step"].sequences == (0, 1, 2, 3)
    assert (tmp_path / "plan.npz").exists()
    assert longalign.replan(names["plan"], ranks=4, from_step=0).sampling_hash == names["plan"].sampling_hash
