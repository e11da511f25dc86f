"""Run folders: fingerprints, locks, atomic files, resume."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.base.files import (
    append_jsonl,
    atomic_path,
    atomic_write_json,
    atomic_write_text,
    fingerprint,
    fingerprint_path,
    random_for,
    read_jsonl,
)
from longalign.base.stage import open_stage
from longalign.config import Settings
from longalign.errors import RunError


class Knobs(Settings):
    size: int = 1


def finish(folder: Path, size: int = 1, inputs: dict[str, str] | None = None, version: int = 1) -> bool:
    """Run a small stage; whether it had to be done."""
    with open_stage(folder, "toy", settings=Knobs(size=size), inputs=inputs or {}, version=version) as stage:
        if stage.done:
            return False
        (folder / "made.txt").write_text(str(size))
        stage.finish({"size": size})
    return True


def test_a_finished_stage_is_skipped_until_settings_inputs_or_version_change(tmp_path: Path) -> None:
    assert finish(tmp_path)
    assert not finish(tmp_path)
    assert finish(tmp_path, size=2)
    assert finish(tmp_path, size=2, inputs={"model": "abc"})
    assert finish(tmp_path, size=2, inputs={"model": "abc"}, version=2)
    assert not finish(tmp_path, size=2, inputs={"model": "abc"}, version=2)


def test_outputs_of_other_settings_are_set_aside_not_mixed_and_not_lost(tmp_path: Path) -> None:
    finish(tmp_path, size=1)
    finish(tmp_path, size=2)
    assert (tmp_path / "made.txt").read_text() == "2"
    (kept,) = (tmp_path / "superseded").glob("*/made.txt")
    assert kept.read_text() == "1"


class Reads(Settings):
    """Settings that name what is read in every way: a field, a key, an item, something bundled."""

    model: str
    data: dict[str, int | None]
    text: tuple[str, ...]


def has_to_run(out: Path, settings: Reads, inputs: dict[str, str]) -> bool:
    with open_stage(out, "toy", settings=settings, inputs=inputs, version=1) as stage:
        todo = not stage.done
        if todo:
            stage.finish({})
    return todo


def test_inputs_count_by_name_and_content_not_by_where_they_lie(tmp_path: Path) -> None:
    def run(place: str, *, rows: int | None = 3, name: str = "rows.jsonl", content: str = "R") -> bool:
        file, text = f"{place}/{name}", f"{place}/books"
        settings = Reads(model=f"{place}/final", data={file: rows, "builtin:x": None}, text=(text, "builtin:y"))
        return has_to_run(tmp_path, settings, {"model": "M", file: content, text: "T", "builtin:x": "named:builtin:x"})

    assert run("here")
    assert not run("/somewhere/else")
    assert run("here", rows=4)
    assert run("here", rows=4, name="other.jsonl")
    assert run("here", rows=4, name="other.jsonl", content="S")
    assert not run("../there", rows=4, name="other.jsonl", content="S")


def test_an_unfinished_stage_is_continued_with_its_files(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_stage(tmp_path, "toy", settings=Knobs(), inputs={}, version=1):
            (tmp_path / "half.txt").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    with open_stage(tmp_path, "toy", settings=Knobs(), inputs={}, version=1) as stage:
        assert not stage.done
        assert (tmp_path / "half.txt").exists()


def test_the_manifest_says_what_was_measured_where(tmp_path: Path) -> None:
    finish(tmp_path)
    manifest = json.loads((tmp_path / "stage.json").read_text())
    assert manifest["summary"] == {"size": 1}
    assert manifest["settings"] == {"size": 1}
    assert manifest["machine"]["cores"] == os.cpu_count()
    assert manifest["wall_s"] >= 0


def test_a_second_process_is_told_who_holds_the_folder_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from longalign.base.stage import lock
        with lock(Path({str(tmp_path)!r})):
            print("held", flush=True)
            time.sleep(60)
    """)
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"in use by process {holder.pid}"):
            finish(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert finish(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text("{")
    with pytest.raises(RunError, match="damaged manifest"):
        finish(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    atomic_write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic_write_json(path, {"a": float("nan")})

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["two"]


@given(cut=st.integers(min_value=0))
def test_a_torn_last_line_costs_that_line_only(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        rows = [{"n": n, "text": "文字\u2028\x85"} for n in range(3)]
        for row in rows:
            append_jsonl(path, row)
        whole = path.read_bytes()
        last = len(whole.splitlines(keepends=True)[-1])
        path.write_bytes(whole[: len(whole) - 1 - cut % last])
        append_jsonl(path, {"n": 9})
        assert [row["n"] for row in read_jsonl(path)][:2] == [0, 1]
        assert read_jsonl(path)[-1] == {"n": 9}


def test_no_log_means_no_rows(tmp_path: Path) -> None:
    assert read_jsonl(tmp_path / "none.jsonl") == []


def test_fingerprints_depend_on_content_and_names_not_on_place(tmp_path: Path) -> None:
    for place in ("a", "b"):
        atomic_write_text(tmp_path / place / "x" / "file.txt", "same")
    assert fingerprint_path(tmp_path / "a") == fingerprint_path(tmp_path / "b")
    atomic_write_text(tmp_path / "b" / "x" / "file.txt", "other")
    assert fingerprint_path(tmp_path / "a") != fingerprint_path(tmp_path / "b")
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    with pytest.raises(RunError, match="no such file"):
        fingerprint_path(tmp_path / "none")


def test_draws_depend_on_seed_and_key_only() -> None:
    first = [random_for(0, "needle", n).integers(1 << 30) for n in range(4)]
    again = [random_for(0, "needle", n).integers(1 << 30) for n in reversed(range(4))][::-1]
    assert first == again
    assert len({*first, random_for(1, "needle", 0).integers(1 << 30)}) == 5
