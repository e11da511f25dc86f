"""A folder of documents never dies of one file: each is read under limits, and the order never depends on timing."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from longalign.data.documents import Document, Reading, Skipped, documents_at
from longalign.data.readers import READERS, RawDocument
from longalign.data.worker_pool import FileLimits, close_workers
from longalign.errors import DataError

BAD_READERS = """
import ctypes, time
from longalign.data.readers import READERS, RawDocument

def read(path):
    name = path.stem
    if name == "endless":
        while True:
            pass
    if name == "asleep":
        time.sleep(1000)
    if name == "memory":
        bytes(3 << 30)
    if name == "crash":
        ctypes.string_at(0)
    if name == "mistake":
        raise KeyError("w:p")
    time.sleep(0.05 * (name == "slow"))
    print("what a library prints is no answer", flush=True)
    yield RawDocument("text of " + name)

READERS[".epub"] = read
"""


@pytest.fixture
def bad_readers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers in which an .epub does what its name says."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(BAD_READERS)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    close_workers()
    yield
    close_workers()


def read(root: Path, **limits: float) -> tuple[list[Document], dict[str, str]]:
    skipped: list[Skipped] = []
    how = Reading(limits=FileLimits(**limits))  # type: ignore[arg-type]
    found = list(documents_at(root, skipped, how))
    return found, {Path(entry.origin).stem: entry.reason for entry in skipped}


@pytest.mark.usefixtures("bad_readers")
def test_a_bad_file_costs_itself_only_with_its_reason_whatever_the_worker_count(tmp_path: Path) -> None:
    names = ["a", "asleep", "b", "crash", "endless", "memory", "mistake", "slow", "z"]
    for name in names:
        (tmp_path / f"{name}.epub").write_text("x")
    (tmp_path / "c.txt").write_text("plain")
    for workers in (3, 1):
        found, reasons = read(tmp_path, timeout_s=0.4, memory_gib=2, workers=workers)
        assert [document.text for document in found] == ["text of a", "text of b", "plain", "text of slow", "text of z"]
        assert reasons == {
            "asleep": "took longer than 0.4 s (file_timeout_s)",
            "crash": "the reader crashed (signal 11)",
            "endless": "took longer than 0.4 s (file_timeout_s)",
            "memory": "needed more than 2 GiB (file_memory_gib)",
            "mistake": "the reader failed (KeyError: 'w:p')",
        }
    with pytest.raises(DataError, match=r"crash\.epub: the reader crashed \(signal 11\)"):
        read(tmp_path / "crash.epub")


@pytest.mark.usefixtures("bad_readers")
def test_documents_that_nobody_waits_for_end_their_workers_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "endless.epub").write_text("x")
    documents = documents_at(tmp_path, [], Reading(limits=FileLimits(timeout_s=600)))
    assert next(documents).text == "first"
    documents.close()  # type: ignore[attr-defined]  # would wait 600 s


def test_a_reader_of_ones_own_is_used_and_its_mistake_costs_a_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(path: Path) -> Iterator[RawDocument]:
        yield RawDocument({"good": "of ones own"}[path.stem])

    monkeypatch.setitem(READERS, ".pdf", log)  # workers know nothing of it
    for name in ("bad.pdf", "good.pdf"):
        (tmp_path / name).write_text("x")
    found, reasons = read(tmp_path)
    assert [document.text for document in found] == ["of ones own"]
    assert reasons == {"bad": "the reader failed (KeyError: 'bad')"}
    with pytest.raises(DataError, match=r"bad\.pdf: the reader failed"):
        read(tmp_path / "bad.pdf")


def test_a_zip_bomb_costs_its_file_only(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("word/document.xml", bytes(96 << 20))
    (tmp_path / "page.html").write_text("<p>a page</p>")
    found, reasons = read(tmp_path, memory_gib=0.15)
    assert [document.text for document in found] == ["a page"]
    assert reasons == {"bomb": "needed more than 0.15 GiB (file_memory_gib)"}
