"""Code blocks of docs/guide/extend-it.md do what their sections say (the evaluation's: tests/eval/test_extend.py)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.micro import longalign

GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "extend-it.md"
MY_MODEL = """
from longalign.llm.base import Reply

class MyModel:
    batched = True

    def __init__(self, name, **options):
        self.name = name

    def complete(self, requests):
        for index, request in enumerate(requests):
            yield index, Reply(text=f"{self.name} heard {request.messages[-1]['content']}", model=self.name)
"""
USES = {
    "Add a document source": """
from pathlib import Path
from longalign.data.source import Source
Path("a.log").write_text("12:00 it rains over the hills and far away\\n12:01 it has stopped, says the old keeper\\n")
print([document.text for document in Source("a.log").documents()])
""",
    "Add a row format": """
from pathlib import Path
from longalign.data.source import read_rows
Path("rows.jsonl").write_text('{"q": "Who?", "a": "Nobody.", "source": "mine"}')
(row,) = read_rows("rows.jsonl")
print([message["content"] for message in row["messages"]], row["source"])
""",
    "Add a batching strategy": """
from longalign.config import TrainSettings
from longalign import plan_steps
plan = plan_steps([5, 1, 4, 2, 3, 6], window=8, sequences_per_step=2, strategy="short_first")
print([step.sequences for step in plan], TrainSettings(strategy="short_first").strategy)
""",
    "Add a weighting": """
from longalign import sequence_weights
from longalign.config import TrainSettings
print(sequence_weights([1, 8], "cube_root").round(4).tolist(), TrainSettings(weighting="cube_root").weighting)
""",
    "Add a provider": """
from longalign.llm.base import Request, complete_all
from longalign.llm.open import open_model
(reply,) = complete_all(open_model("mine:parrot"), [Request(messages=({"role": "user", "content": "hello"},))])
print(reply.text)
""",
}
PRINTS = {
    "Add a document source": "['it rains over the hills and far away', 'it has stopped, says the old keeper']",
    "Add a row format": "['Who?', 'Nobody.'] mine",
    "Add a batching strategy": "[(1, 3), (2, 4), (0, 5)] short_first",
    "Add a weighting": "[0.3333, 0.0833] cube_root",
    "Add a provider": "parrot heard hello",
}


def section(title: str) -> str:
    """The text of one section of the guide."""
    return GUIDE.read_text(encoding="utf-8").split(f"## {title}\n")[1].split("\n## ")[0]


def block(title: str, language: str) -> str:
    """The code block of that language in a section."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)
    return str(found)


def test_every_section_is_tried() -> None:
    titles = re.findall(r"^## (.*)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {*titles} == {*USES, "Add an evaluation", "Add a judge prompt"}


@pytest.mark.parametrize("title", USES)
def test_the_code_of_a_section_adds_what_it_says(title: str, tmp_path: Path) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "models.py").write_text(MY_MODEL)
    (tmp_path / "mine.py").write_text(block(title, "python") + USES[title], encoding="utf-8")
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == PRINTS[title], done.stderr


def test_a_judge_prompt_of_ones_own_judges(tmp_path: Path) -> None:
    case = {"input": "Who keeps the light?", "context": "Ada keeps the light.", "answers": ["Ada"], "dataset": "qasper"}
    (tmp_path / "cases.jsonl").write_text(json.dumps(case) + "\n")
    (tmp_path / "strict.md").write_text(block("Add a judge prompt", "text"), encoding="utf-8")
    _, *arguments = block("Add a judge prompt", "bash").split()
    done = longalign(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "runs" / "longbench" / "results.json").read_text())
    assert results["overall"]["scored"] == 1
    assert results["judge"]["prompt_hash"]


def test_the_files_that_a_section_names_exist() -> None:
    root = GUIDE.parents[2]
    for name in re.findall(r"`(src/longalign/[a-z_/]+(?:\.py|/))`", GUIDE.read_text(encoding="utf-8")):
        assert (root / name).exists(), name
