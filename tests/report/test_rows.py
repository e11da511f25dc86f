"""The page shows the rows that were built, with what was rejected and why."""

from pathlib import Path

from longalign.config import DataSettings
from longalign.data.build import build
from longalign.report.page import report
from tests.makers.text import prose


def test_a_built_set_is_on_the_page_with_its_rejections(tmp_path: Path) -> None:
    (tmp_path / "essay.txt").write_text(prose(7, 400), encoding="utf-8")
    settings = DataSettings(documents=(str(tmp_path / "essay.txt"),), rows=2, min_length_tokens=200)
    built = build(settings, tmp_path / "run" / "long")
    report([tmp_path / "run"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    section = page.split('<section id="rows">')[1].split("</section>")[0]
    assert "long" in section
    assert f">{built['rows']}<" in section
    for reason, count in built["rejected_by_reason"].items():
        assert f"{reason} {count}" in section
    assert "offline" in section


def test_a_page_without_built_rows_has_no_such_part(tmp_path: Path) -> None:
    from tests.report.conftest import write_short

    write_short(tmp_path / "base", "base", 0.5, None)
    report([tmp_path], tmp_path / "page.html")
    assert 'id="rows"' not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_selection_is_on_the_page_with_what_was_left_out(tmp_path: Path) -> None:
    from longalign.data.choose.select import SelectHow, select
    from tests.data.choose.rows import row, write
    from tests.report.conftest import write_short

    write_short(tmp_path / "base", "base", 0.5, None)
    rows = [row(n, support=[n / 10], task=["summary", "general"][n % 2]) for n in range(8)]
    file = write(tmp_path / "rows.jsonl", [*rows, {**rows[0], "id": "again"}])
    found = select(str(file), tmp_path / "best.jsonl", SelectHow(keep="4", per=("task",)))
    report([tmp_path], tmp_path / "page.html")
    section = (tmp_path / "page.html").read_text(encoding="utf-8").split('<section id="selections">')[1]
    section = section.split("</section>")[0]
    assert "<th>best</th>" in section
    assert ">44%<" in section
    assert "summary 2 of 4" in section
    for reason, count in found["left_out"].items():
        assert f"{reason} {count}".replace("'", "&#39;") in section
