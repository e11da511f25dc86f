"""Reading a recipe: overrides, where values come from, and errors a person can act on."""

from pathlib import Path
from typing import get_args

import pytest

import longalign.config
from longalign.cli.options import settings
from longalign.config import DataSettings, ExtendSettings, Settings, TrainSettings
from longalign.config.load import build, load_run, nest, parse_overrides
from longalign.errors import ConfigError
from longalign.recipe.arms import arm_settings

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: x\nextend: {window: 2048, text: [a], learning_rate: 1e-3}\ndata: {long: {rows: 5, documents: [b]}}\n"
        "train: {strategy: packed, data: {all: null}, arms: {short: {data: {short: 3}}, same: {}}}\n"
        "full: {seeds: [0, 1, 2], train.window: 4096}\n",
        encoding="utf-8",
    )
    return path


def test_every_value_knows_its_source(recipe: Path) -> None:
    settings, sources = load_run(recipe, parse_overrides(["--train.learning_rate", "1e-4"]), full=True)
    assert settings.train.learning_rate == 1e-4
    assert settings.seeds == (0, 1, 2)
    assert sources["train.learning_rate"] == (1e-4, "command line")
    assert sources["train.window"] == (4096, "--full")
    assert sources["extend.learning_rate"] == (1e-3, str(recipe))
    assert sources["extend.seed"] == (0, "default")
    assert sources["full.train.window"] == (4096, str(recipe))


def test_full_settings_stay_out_without_the_flag(recipe: Path) -> None:
    assert load_run(recipe, {})[0].seeds == (0,)


def test_an_arm_lays_its_settings_on_the_common_ones(recipe: Path) -> None:
    run = load_run(recipe, {"train.arms.short.max_steps": 7})[0]
    short = arm_settings(run, "short", seed=3, data={"rows.jsonl": 3})
    assert (short.strategy, short.max_steps, short.seed, short.data) == ("packed", 7, 3, {"rows.jsonl": 3})
    assert arm_settings(run, "same").data == {"all": None}


def test_own_documents_replace_those_of_every_set_and_join_the_text(recipe: Path) -> None:
    settings, sources = load_run(recipe, {}, documents=["mine"])
    assert settings.data["long"].documents == ("mine",)
    assert isinstance(settings.extend, ExtendSettings)
    assert settings.extend.text == ("a", "mine")
    assert sources["data.long.documents"][1] == "--documents"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (["--train.learning_rat", "1"], "unknown key `train.learning_rat` (did you mean `train.learning_rate`?)"),
        (["--data.long.rowz", "1"], "unknown key `data.long.rowz` (did you mean `data.long.rows`?)"),
        (["--extend.rope.methud", "yarn"], "(did you mean `extend.rope.method`?)"),
        (["--train.strategy", "foo"], "`train.strategy` = 'foo'"),
        (["--eval.longbench.window", "9"], ": eval: longbench needs `cases`, the files of its questions"),
        (["--train.window", "-1"], "`train.window` = -1"),
        (["--train.window"], "train.window: needs a value, not true"),
        (["--train.weighting", "--train.seed", "1"], "train.weighting: needs a value, not true"),
        (["--train.window", "[0.4"], "--train.window: `[0.4` cannot be read"),
        (["--trian.window", "4"], "command line: unknown key `trian` (did you mean `train`?)"),
        (["--train.windw", "4"], "command line: unknown key `train.windw`"),
        (["--eval.chat", "3"], "command line: `eval.longbench_chat` = 3: this is a section, a mapping of settings"),
        (["train.window"], "unexpected argument"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_with_the_nearest_name(
    recipe: Path, override: list[str], complaint: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_run(recipe, parse_overrides(override))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cpu_offload": True, "parallel": "none"}, "cpu_offload: parallel none cannot offload; use fsdp2"),
        ({"cpu_offload": True, "parallel": "ddp"}, "cpu_offload: parallel ddp cannot offload; use fsdp2"),
        ({"optimizer": "muon", "parallel": "deepspeed"}, "optimizer: muon needs whole gradients"),
        ({"mlp_tile_tokens": 64, "parallel": "deepspeed"}, "mlp_tile_tokens: ZeRO-3 gathers weights at each call"),
        ({"quantize": "4bit", "lora_rank": 4, "parallel": "deepspeed"}, "quantize: deepspeed cannot split 4-bit"),
        (
            {"quantize": "4bit", "lora_rank": 4, "cpu_offload": True},
            "quantize: cpu_offload does not keep 4-bit weights",
        ),
        ({"weighting": "plain_packing", "strategy": "sorted"}, "weighting plain_packing needs strategy packed"),
    ],
)
def test_settings_that_exclude_each_other_are_refused_while_the_recipe_is_read(
    recipe: Path, changes: dict[str, object], complaint: str
) -> None:
    for section in ("train", "extend"):
        if section == "extend" and "quantize" in changes:
            continue
        with pytest.raises(ConfigError) as error:
            load_run(recipe, {f"{section}.{key}": value for key, value in changes.items()})
        assert f"{recipe}: {section}: {complaint}" in str(error.value)
        assert "\n" not in str(error.value)
    run = load_run(recipe, {f"train.arms.short.{key}": value for key, value in changes.items()})[0]
    with pytest.raises(ConfigError, match=rf"train\.arms\.short: {complaint}"):
        arm_settings(run, "short")


def test_an_unknown_key_of_an_arm_is_refused(recipe: Path) -> None:
    run = load_run(recipe, {"train.arms.short.windw": 7})[0]
    with pytest.raises(ConfigError, match=r"train\.arms\.short: unknown key `windw` \(did you mean `window`\?\)"):
        arm_settings(run, "short")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("name: [", ":1: not valid YAML"), ("- a", "a recipe is a mapping"), ("model: x", "`name` is required")],
)
def test_an_unreadable_recipe_names_file_and_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_run(path, {})
    assert str(path) in str(error.value)
    assert complaint in str(error.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such recipe file"):
        load_run(tmp_path / "none.yaml", {})


def test_one_value_stands_for_a_list_of_one_and_repeated_options_for_several(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: x\nextend: {text: books/}\ndata: {long: {documents: papers/}}\nseeds: 3\n")
    settings, _ = load_run(path, parse_overrides(["--train.eval_data", "a", "--train.eval-data", "b"]))
    assert isinstance(settings.extend, ExtendSettings)
    assert (settings.extend.text, settings.data["long"].documents, settings.seeds) == (("books/",), ("papers/",), (3,))
    assert settings.train.eval_data == ("a", "b")
    joined = load_run(path, {}, documents=["mine"])[0]
    assert isinstance(joined.extend, ExtendSettings)
    assert joined.extend.text == ("books/", "mine")


def test_rows_are_counted_by_the_models_tokenizer_unless_a_set_names_another(recipe: Path) -> None:
    assert load_run(recipe, {"model": "a/b"})[0].data["long"].tokenizer == "a/b"
    assert load_run(recipe, {"model": "a/b", "data.long.tokenizer": "c/d"})[0].data["long"].tokenizer == "c/d"
    assert load_run(recipe, {})[0].data["long"].tokenizer == "builtin:tiny-base"


def test_an_option_without_a_value_is_true() -> None:
    typed = ["--train.activation_offload", "--train.window", "8", "--train.cpu-offload"]
    wanted = {"train.activation_offload": True, "train.window": 8, "train.cpu_offload": True}
    assert parse_overrides(typed) == wanted


def test_every_choice_can_be_written_as_it_is_called() -> None:
    """YAML reads `off` as false: `--quality off` and `multi_hop: off` mean the word."""
    named = [
        (cls, name, choice)
        for cls in vars(longalign.config).values()
        if isinstance(cls, type) and issubclass(cls, Settings)
        for name, field in cls.model_fields.items()
        for choice in get_args(field.annotation)
        if isinstance(choice, str)
    ]
    assert (DataSettings, "quality", "off") in named
    for cls, name, choice in named:
        (written,) = parse_overrides([f"--{name}", choice]).values()
        assert written == choice or cls._choice(name, written) == choice, (cls.__name__, name, choice)
    assert build(DataSettings, parse_overrides(["--quality", "off", "--multi_hop", "off"]), "here").quality == "off"
    with pytest.raises(ConfigError, match="quality: needs a value, not true"):
        build(DataSettings, parse_overrides(["--quality"]), "here")


def test_dotted_keys_nest() -> None:
    assert nest({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert parse_overrides(["--a-b=1e-3", "--c", "[1, 2]"]) == {"a_b": "1e-3", "c": [1, 2]}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_and_all_its_arms_are_valid(path: Path) -> None:
    for full in (False, True):
        run = load_run(path, {}, full=full)[0]
        for arm in run.train.arms:
            assert arm_settings(run, arm).window > 1


def test_a_value_under_an_earlier_name_is_traced_to_where_it_stands(recipe: Path) -> None:
    settings, sources = load_run(recipe, {"eval.chat.questions": 5})
    assert settings.eval.longbench_chat is not None
    assert sources["eval.longbench_chat.questions"] == (5, "command line")
    assert sources["eval.longbench_chat.scorings"] == (2, "default")
    with pytest.raises(ConfigError, match=r"unknown key `eval\.longbench_chat\.questoins` \(did you mean"):
        load_run(recipe, {"eval.chat.questoins": 5})
    with pytest.raises(ConfigError, match="chat is the earlier name of longbench_chat; give longbench_chat alone"):
        load_run(recipe, {"eval.chat.questions": 5, "eval.longbench_chat.seed": 1})


def test_the_command_line_overrides_a_recipe_by_either_name(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("name: old\neval: {chat: {questions: 5, scorings: 3}}\n")
    settings, sources = load_run(path, {"eval.longbench_chat.questions": 2})
    assert settings.eval.longbench_chat is not None
    assert (settings.eval.longbench_chat.questions, settings.eval.longbench_chat.scorings) == (2, 3)
    assert sources["eval.longbench_chat.questions"] == (2, "command line")
    assert sources["eval.longbench_chat.scorings"] == (3, str(path))


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (broken := tmp_path / "broken.json").write_text("{bad")
    for file in (broken, tmp_path / "nowhere.json"):
        with pytest.raises(ConfigError, match=file.name):
            settings(TrainSettings, None, {}, file)
