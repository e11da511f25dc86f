"""`longalign data prompts init` as a person meets it."""

import json
from pathlib import Path

from longalign.llm.prompt import prompt_hash
from tests.cli.test_verbs import longalign


def test_the_files_are_printed_with_their_hashes_and_files_that_are_there_stay(tmp_path: Path) -> None:
    wrote = longalign("data", "prompts", "init", "mine", "--language", "de", "--json", cwd=tmp_path)
    assert wrote.returncode == 0, wrote.stderr
    assert json.loads(wrote.stdout)["prompts"] == {"de": {"file": "mine/de.md", "prompt": prompt_hash("de")}}
    again = longalign("data", "prompts", "init", "mine", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("error: mine/de.md: exists")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["de.md"]
