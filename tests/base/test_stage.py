"""Run folders: fingerprints, locks, atomic files, resume."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from longalign.base.decides import EXECUTION, REPORTING
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
from longalign.base.stage import open_stage, read_manifest
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


class Work(Settings):
    """One setting of each kind."""

    learning_rate: float = 1.0
    save_steps: int = Field(100, json_schema_extra=EXECUTION)
    report_to: str = Field("", json_schema_extra=REPORTING)


def killed(out: Path, settings: Work) -> None:
    """A stage that dies after its first checkpoint and its first paid reply."""
    with (
        contextlib.suppress(ZeroDivisionError),
        open_stage(out, "toy", settings=settings, inputs={"m": "M"}, version=1),
    ):
        (out / "checkpoints" / "step-10").mkdir(parents=True)
        (out / "ledger.sqlite").write_text("paid")
        (out / "answers.jsonl").write_text("{}")
        raise ZeroDivisionError


def again(out: Path, settings: Work, *, restart: bool = False) -> bool:
    """Whether the checkpoint is still there when the stage opens the next time."""
    with open_stage(out, "toy", settings=settings, inputs={"m": "M"}, version=1, restart=restart) as stage:
        found = (out / "checkpoints" / "step-10").exists()
        stage.finish({})
    return found


@pytest.mark.parametrize("change", [{"save_steps": 7}, {"report_to": "wandb"}])
def test_how_it_runs_may_change_between_attempts(tmp_path: Path, change: dict[str, Any]) -> None:
    killed(tmp_path, Work())
    assert again(tmp_path, Work(**change))
    assert read_manifest(tmp_path)["settings"] == Work(**change).model_dump()
    assert not (tmp_path / "superseded").exists()


def test_what_decides_the_result_may_not_change_over_checkpoints_unasked(tmp_path: Path) -> None:
    killed(tmp_path, Work())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError) as error:
        again(tmp_path, Work(learning_rate=2.0))
    assert "`learning_rate` was 1.0 and is now 2.0. Checkpoints of the earlier run are here (1)" in str(error.value)
    assert "go back to the old value to carry on, or add --restart to begin anew" in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert again(tmp_path, Work()), "the old value carries on"


def test_restart_sets_checkpoints_aside_and_keeps_what_was_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed(tmp_path, Work())
    assert not again(tmp_path, Work(learning_rate=2.0), restart=True)
    assert "`learning_rate` was 1.0 and is now 2.0; the earlier outputs are in" in capsys.readouterr().err
    (attic,) = (tmp_path / "superseded").iterdir()
    assert {entry.name for entry in attic.iterdir()} == {"checkpoints", "answers.jsonl", "stage.json"}
    assert (tmp_path / "ledger.sqlite").read_text() == "paid"


def test_restart_without_a_change_carries_on(tmp_path: Path) -> None:
    killed(tmp_path, Work())
    assert again(tmp_path, Work(), restart=True)


def test_a_folder_of_an_earlier_version_is_read_and_carried_on(tmp_path: Path) -> None:
    """Its fingerprint covered every setting, it does not say its version, and a setting was added since."""
    killed(tmp_path, Work())
    manifest = json.loads((tmp_path / "stage.json").read_text())
    for key in ("schema", "version"):
        del manifest[key]
    del manifest["settings"]["save_steps"]
    (tmp_path / "stage.json").write_text(json.dumps(manifest | {"fingerprint": "0" * 64}))
    assert again(tmp_path, Work())


def test_a_folder_of_a_later_version_is_refused(tmp_path: Path) -> None:
    killed(tmp_path, Work())
    manifest = json.loads((tmp_path / "stage.json").read_text())
    (tmp_path / "stage.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(RunError, match="written by a newer LongAlign"):
        again(tmp_path, Work())


@pytest.mark.parametrize(
    ("inputs", "version", "said"),
    [
        ({"m": "N"}, 1, "the content of m has changed"),
        ({"m": "M"}, 2, r"stage `toy` computes differently since \(version 1, now 2\)"),
    ],
)
def test_what_it_reads_and_how_it_computes_may_not_change_either(
    tmp_path: Path, inputs: dict[str, str], version: int, said: str
) -> None:
    killed(tmp_path, Work())
    with (
        pytest.raises(RunError, match=said),
        open_stage(tmp_path, "toy", settings=Work(), inputs=inputs, version=version),
    ):
        pass


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


def test_a_list_of_names_counts_by_content_under_the_setting_that_holds_it(tmp_path: Path) -> None:
    def run(name: str, content: str = "T") -> bool:
        settings = Reads(model="m", data={}, text=(name,))
        return has_to_run(tmp_path, settings, {"model": "M", "text": content})

    assert run("books")
    assert not run("/somewhere/else/books")
    assert run("books", content="U")


def test_the_content_that_changed_is_named_by_its_setting(tmp_path: Path) -> None:
    settings = Reads(model="m", data={"a/rows.jsonl": None}, text=())
    with open_stage(tmp_path, "toy", settings=settings, inputs={"a/rows.jsonl": "R"}, version=1):
        (tmp_path / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    with (
        pytest.raises(RunError, match=r"the content of `data\.a/rows\.jsonl` has changed"),
        open_stage(tmp_path, "toy", settings=settings, inputs={"a/rows.jsonl": "S"}, version=1),
    ):
        pass


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
