"""A mistyped model is named as what it is, with the nearest folder, before anybody is asked for it."""

from pathlib import Path

import pytest

from longalign.base.sources import missing, model_dir
from longalign.base.tokenizers import open_tokenizer
from longalign.errors import ConfigError, LongAlignError, ModelError
from longalign.train.model import load_config


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("models/qwen3-8b", "models/llama3-8b", "out/train/final", "bases"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("./models/qwen3-8", "models/qwen3-8b"),
        ("models/qwen38b", "models/qwen3-8b"),
        ("out/trian/final", "out/train/final"),
        ("~/no-such-folder/x", None),
        ("./nothing-like-it", None),
    ],
)
def test_what_can_only_be_a_folder_is_missed_with_its_nearest(name: str, nearest: str | None, here: Path) -> None:
    with pytest.raises(ModelError) as raised:
        model_dir(name)
    expected = f"no such folder: {name}" + (f"; did you mean {nearest}?" if nearest else "")
    assert str(raised.value) == expected


def test_an_absolute_path_too(here: Path) -> None:
    wrong = here / "models" / "qwen3-8c"
    assert missing(str(wrong)) == f"no such folder: {wrong}; did you mean {here / 'models' / 'qwen3-8b'}?"
    with pytest.raises(LongAlignError, match="no such folder"):
        load_config(wrong)


def test_what_may_be_a_hub_id_is_left_to_the_hub_and_both_are_named_when_it_has_none(here: Path) -> None:
    for name in ("owner/model", "base"):
        assert model_dir(name) == name
        for read in (load_config, open_tokenizer):
            with pytest.raises(LongAlignError) as raised:
                read(name)
            said = str(raised.value)
            assert f"{name}: no such folder here, and the hub has no model of this id or is not reachable" in said
            assert ("did you mean bases?" in said) == (name == "base")
            assert "\n" not in said


def test_what_is_there_stays_as_it_is(here: Path) -> None:
    assert model_dir("models/qwen3-8b") == "models/qwen3-8b"
    assert model_dir(str(here)) == str(here)
    with pytest.raises(ConfigError, match="no such bundled model"):
        model_dir("builtin:nothing")
