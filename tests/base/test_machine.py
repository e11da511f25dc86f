"""What a manifest says about the machine: everything JSON can hold, nothing invented."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from longalign.base import machine


def test_a_description_is_json_and_names_hardware_versions_and_commit() -> None:
    found = machine.describe_machine()
    assert json.loads(json.dumps(found)) == found
    assert found["cores"] == os.cpu_count()
    assert found["processor"]
    assert found["memory_gib"] is None or found["memory_gib"] > 0
    assert isinstance(found["accelerators"], list)
    assert {"longalign", "torch", "transformers"} <= set(found["versions"])


def test_packages_that_are_not_there_have_no_version() -> None:
    assert machine._version("no-such-package-as-this") is None


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_the_commit_carries_a_plus_when_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "longalign" / "base"
    package.mkdir(parents=True)
    (package / "machine.py").write_text("x = 1\n")
    monkeypatch.setattr(machine, "__file__", str(package / "machine.py"))
    assert machine._commit() is None, "outside a checkout"
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True, capture_output=True)
    head = subprocess.run(
        ["git", "-C", str(tmp_path), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout
    assert machine._commit() == head[:12]
    (tmp_path / "new.txt").write_text("untracked files are no change of the code\n")
    assert machine._commit() == head[:12]
    (package / "machine.py").write_text("x = 2\n")
    assert machine._commit() == f"{head[:12]}+"


def test_without_an_nvidia_driver_there_are_no_accelerators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._accelerators() == []
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB'\n")
    driver.chmod(0o755)
    assert machine._accelerators() == ["NVIDIA H100 80GB HBM3, 81559 MiB"]
    driver.write_text("#!/bin/sh\nexit 9\n")
    assert machine._accelerators() == []
