"""vLLM as a model of this process. Where it is not installed, only what is said about that."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.build_files import Inputs
from longalign.llm.open import has_weights, is_endpoint, is_vllm
from tests.makers.scripted_model import save_scripted_model

HERE = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not HERE, reason="vLLM is not installed: it needs an environment of its own")
CODE = """
import json, sys
from longalign.llm.base import Request, complete_all
from longalign.llm.open import open_model

def asked(text, **options):
    return Request(messages=({"role": "user", "content": text},), max_new_tokens=20, **options)

if __name__ == "__main__":
    requests = [asked("Number them"), asked("a"), asked("ab", stop=("archive",)), asked("abc", temperature=0.7, seed=1)]
    engine = {"max_model_len": 512, "enforce_eager": True}
    here = open_model(sys.argv[1], dtype="float32", device="cpu")
    there = open_model("vllm:" + sys.argv[1], dtype="float32", vllm_engine=engine)
    long = asked("far too long " * 600)
    said = [(outcome.text, outcome.completion_tokens) for outcome in complete_all(here, requests)]
    *outcomes, too_long = complete_all(there, [*requests, long])
    print(json.dumps({
        "same": said == [(outcome.text, outcome.completion_tokens) for outcome in outcomes],
        "names": [here.name, there.name],
        "window": there.window,
        "too_long": getattr(too_long, "kind", None),
    }))
"""


def test_without_vllm_the_error_says_how_to_install_it(model_dir: Path) -> None:
    code = (
        "import sys; sys.modules['vllm'] = None\n"
        f"from longalign.llm.open import open_model; open_model('vllm:{model_dir}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ConfigError: `vllm:` models need vLLM" in done.stderr.splitlines()[-1]
    assert "pip install vllm" in done.stderr.splitlines()[-1]


def test_a_spec_of_vllm_names_weights_and_another_model_than_the_plain_one(model_dir: Path) -> None:
    spec = f"vllm:{model_dir}"
    assert has_weights(spec)
    assert is_vllm(spec)
    assert not is_endpoint(spec)
    settings = DataSettings(documents=("builtin:python-docs",), llm=spec)
    counter = TokenCounter(settings.tokenizer)
    plain = settings.model_copy(update={"llm": str(model_dir)})
    assert Inputs.of(settings, counter).llm != Inputs.of(plain, counter).llm


@pytest.mark.slow
@needs_vllm
def test_greedy_replies_of_a_float32_model_are_those_of_a_local_one(tmp_path: Path) -> None:
    folder = save_scripted_model(tmp_path / "model")
    (tmp_path / "ask.py").write_text(CODE)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "ask.py"), str(folder)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # vLLM says nothing on stdout
    assert found["same"]
    assert found["names"][1] == f"vllm:{found['names'][0]}"
    assert found["window"] == 512
    assert found["too_long"] == "too_long"
