"""`extend` as a list: stages one after another, each from the last one's model, in the plan, the run and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from longalign.base.files import read_jsonl
from longalign.config.load import load_run, parse_overrides
from longalign.errors import ConfigError, ModelError
from longalign.recipe.arms import extension_names
from longalign.recipe.check import check_inputs, check_model
from longalign.recipe.plan import plan_run
from longalign.recipe.plan_text import run_plan_text
from longalign.recipe.run import run
from tests.makers.other_families import FAMILIES

TWO: dict[str, Any] = {
    "name": "two",
    "model": "meta-llama/Llama-2-7b-hf",
    "extend": [
        {"window": 16384, "text": ["books"], "windows": {4096: 0.5, 16384: 0.5}, "parallel": "fsdp2"},
        {"window": 65536, "text": ["books"], "max_steps": 4, "parallel": "fsdp2"},
    ],
    "assume": {"books": {"tokens": 20_000_000, "lengths": [8192, 100_000]}},
    "processes_per_node": 8,
}


def test_models_of_several_parts_can_be_stretched_stage_by_stage(tmp_path: Path) -> None:
    FAMILIES["Gemma 3"].build().save_pretrained(tmp_path)
    settings = load_run(written(tmp_path, TWO), {})[0]
    check_model(settings, str(tmp_path))


def written(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / "two.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_stages_of_a_list_are_named_by_number(tmp_path: Path) -> None:
    path = written(tmp_path, TWO)
    settings, sources = load_run(path, parse_overrides(["--extend.1.window", "32768"]), documents=["mine"])
    assert [stage.window for stage in settings.extensions] == [16384, 32768]
    assert [stage.text for stage in settings.extensions] == [("books", "mine")] * 2
    assert extension_names(settings) == ["extend", "extend-2"]
    assert sources["extend.1.window"] == (32768, "command line")
    assert sources["extend.0.window"] == (16384, str(path))
    one = load_run(written(tmp_path, TWO | {"extend": TWO["extend"][0]}), {})[0]
    assert extension_names(one) == ["extend"], "a stage that is added leaves the first where it is"
    assert one.extensions == load_run(written(tmp_path, TWO), {})[0].extensions[:1]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (["--extend.1.windw", "3"], "unknown key `extend.1.windw` (did you mean `extend.1.window`?)"),
        (["--extend.2.window", "3"], "`extend.2`: `extend` has 0 to 1"),
        (
            ["--extend.window", "3"],
            "`extend.window`: `extend` is a list of 2; say which by its number",
        ),
        (["--extend.0.window", "9"], "extend.0: windows: {4096: 0.5, 16384: 0.5}: the largest must be `window` (9)"),
        (["--extend.0.windows.4096", "0.7"], "the shares must be above 0 and together 1"),
    ],
)
def test_a_mistake_in_a_stage_is_one_line_that_names_it(tmp_path: Path, override: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_run(written(tmp_path, TWO), parse_overrides(override))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_the_plan_has_every_stage_and_counts_its_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = plan_run(load_run(written(tmp_path, TWO), {})[0], tmp_path / "run")
    report = plan.as_dict()
    first, second = report["extend"]
    assert (first["window"], second["window"], second["steps"]) == (16384, 65536, 4)
    assert report["totals"]["training_hours"] == pytest.approx(first["hours"] + second["hours"])
    assert report["eval"]["models"] == 2
    first_alone = {key: value for key, value in TWO["extend"][0].items() if key != "windows"}
    plain = plan_run(load_run(written(tmp_path, TWO | {"extend": first_alone}), {})[0], tmp_path / "run")
    uncut = plain.as_dict()["extend"]
    assert first["tokens"] == uncut["tokens"], "long text is cut shorter, nothing is left out"
    assert first["sequences"] > first["tokens"] / 2 / 4096 > uncut["sequences"]
    assert all(name in run_plan_text(plan) for name in ("extend ", "extend-2"))
    alone = plan_run(load_run(written(tmp_path, TWO | {"extend": TWO["extend"][:1]}), {})[0], tmp_path / "run")
    assert alone.as_dict()["extend"] == first


@pytest.mark.slow
def test_each_stage_starts_from_the_last_and_a_new_one_leaves_the_others(micro_place: Path, tmp_path: Path) -> None:
    """Mixed windows and a needle curve in the second; the RoPE base is multiplied again."""
    micro = yaml.safe_load((micro_place / "micro.yaml").read_text(encoding="utf-8"))
    first = micro["extend"] | {"max_steps": 2, "rope": {"base_factor": 4}}
    needle = {"form": "register", "lengths": [128], "depths": 2, "max_new_tokens": 4, "haystack": first["text"]}
    second = first | {
        "window": 1024, "windows": {256: 0.5, 1024: 0.5}, "rope": {"base_factor": 3},
        "eval_tasks": {"needle": needle}, "eval_task_steps": 1,
    }  # fmt: skip
    values = {"name": "two", "model": micro["model"], "eval": {"short": {"questions": 7, "max_new_tokens": 4}}}
    out = tmp_path / "run"
    run(load_run(written(tmp_path, values | {"extend": first}), {})[0], out)
    stamp = (out / "extend/final/model.safetensors").stat().st_mtime_ns
    two = load_run(written(tmp_path, values | {"extend": [first, second]}), {})[0]
    run(two, out)
    assert (out / "extend/final/model.safetensors").stat().st_mtime_ns == stamp
    bases = [json.loads((Path(folder) / "config.json").read_text())["rope_parameters"]["rope_theta"] for folder in (
        micro["model"], out / "extend/final", out / "extend-2/final")]  # fmt: skip
    assert bases[1:] == [4 * bases[0], 12 * bases[0]]
    assert json.loads((out / "extend-2/final/config.json").read_text())["max_position_embeddings"] == 1024
    assert json.loads((out / "extend-2/stage.json").read_text())["settings"]["model"] == str(out / "extend/final")
    assert [row["step"] for row in read_jsonl(out / "extend-2/metrics.jsonl") if "tasks" in row] == [0, 1, 2]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "While training: extend-2" in page
    assert "needle, by length" in page
    yarn = {"rope": {"method": "yarn"}}
    twice = load_run(written(tmp_path, values | {"extend": [first | yarn, second | yarn]}), {})[0]
    with pytest.raises(ModelError, match=r"extend-2: .* already scales RoPE"):
        check_inputs(twice)
