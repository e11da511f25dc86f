"""Settings of all tests: no network, no clock in property tests; the recipe's run that several tests look at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("longalign", deadline=None)
settings.load_profile("longalign")


@pytest.fixture(scope="session")
def micro_place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/ (a random model), documents/ and micro.yaml, which runs every stage on them."""
    from tests.micro import make_base, make_documents, recipe, write_recipe

    place = tmp_path_factory.mktemp("micro")
    values = recipe(make_base(place / "base"), make_documents(place / "documents"))
    write_recipe(place / "micro.yaml", values)
    return place


@pytest.fixture(scope="session")
def micro_run(micro_place: Path) -> Path:
    """The finished run of that recipe, made by the command line with `--out run`. Look, do not change."""
    from tests.micro import longalign

    done = longalign("run", micro_place / "micro.yaml", "--out", "run", cwd=micro_place)
    assert done.returncode == 0, done.stderr
    (micro_place / "stdout.txt").write_text(done.stdout, encoding="utf-8")
    return micro_place / "run"
