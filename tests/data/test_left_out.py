"""Everything that was read is used or stands in the list of what was left out, with its reason."""

import io
import json
import random
from collections import Counter
from pathlib import Path

from longalign.base.files import read_jsonl
from longalign.base.tokenizers import TokenCounter
from longalign.config import DataSettings
from longalign.data.corpus import open_corpus
from longalign.data.documents import Skipped
from longalign.data.left_out import LeftOut
from tests.makers.text import prose


def words(seed: int, count: int) -> str:
    drawn = random.Random(seed)
    return "\n\n".join(" ".join("".join(drawn.choices("abcdefgh", k=4)) for _ in range(40)) for _ in range(count // 40))


def test_what_was_read_is_usable_or_listed_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    long = words(1, 2000)
    (folder / "a.txt").write_text(long)
    (folder / "b.txt").write_text(long + "\n")
    (folder / "c.txt").write_text(words(2, 400))
    (folder / "d.txt").write_text(words(2, 400)[:900])
    (folder / "e.txt").write_text("too short")
    (folder / "f.png").write_bytes(b"\x89PNG")
    (folder / "g.docx").write_text("no archive")
    (folder / "h.jsonl").write_text('{"text": "' + words(3, 400).replace("\n", " ") + '"}\n{"text": null}\n')
    settings = DataSettings(documents=(str(folder),), max_length_tokens=1024, min_length_tokens=128)
    listing = tmp_path / "left_out.jsonl"
    counter = TokenCounter(settings.tokenizer)
    corpus = open_corpus(tmp_path / "c.sqlite", listing, settings, counter, "documents")
    report, listed = corpus.report, read_jsonl(listing)
    corpus.close()
    assert Counter(row["reason"] for row in listed) == Counter(report.skipped_by_reason) + Counter(
        report.dropped_by_reason
    ) + Counter(report.cut_out_by_reason)
    assert report.files_or_rows_skipped == sum(report.skipped_by_reason.values()) == 3
    whole = report.read - report.cut_into_parts + report.parts
    assert whole == report.usable + sum(report.dropped_by_reason.values())
    assert report.parts > 2  # parts, too, are counted
    by_origin = {Path(row["origin"]).name: row for row in listed}
    assert by_origin["e.txt"] == {
        "origin": str(folder / "e.txt"),
        "reason": "too short",
        "detail": "",
        "length_tokens": counter.counts(["too short"])[0],
        "excerpt": "too short",
    }
    assert by_origin["d.txt"]["reason"] == "repeated inside others"
    assert by_origin["d.txt"]["excerpt"] == words(2, 400)[:200]
    assert by_origin["g.docx"]["reason"] == "damaged or not a .docx file"
    assert by_origin["g.docx"]["detail"] == "File is not a zip file"
    assert by_origin["h.jsonl:2"]["reason"] == "field `text` is null; it must be text"
    assert any(row["reason"] == "repeated exactly" and "b.txt" in row["origin"] for row in listed)
    listing.unlink()
    open_corpus(tmp_path / "c.sqlite", listing, settings, counter, "documents").close()
    assert json.loads(listing.read_text().splitlines()[0]) == listed[0]


def test_text_that_is_none_costs_no_call(tmp_path: Path) -> None:
    """Glyphs, lost letters and link lists are listed with the reason; a contents page is cut out of its document."""
    folder = tmp_path / "books"
    folder.mkdir()
    (folder / "glyphs.txt").write_text("GLYPH<28>GLYPH<27>GLYPH<31> " * 300)
    (folder / "private_use.txt").write_text("The harbour o\ue000ice opened in 1911 and closed in 1974. " * 60)
    (folder / "links.md").write_text("\n".join(f"- [Part {n}](https://example.org/{n})" for n in range(40)))
    contents = "\n".join(f"{n} Of boats and tides . . . . . . . . . {3 * n}" for n in range(1, 40))
    text = prose(1, 40)
    (folder / "manual.txt").write_text(f"{contents}\n\n{text}")
    listing = tmp_path / "left_out.jsonl"
    settings = DataSettings(documents=(str(folder),), max_length_tokens=4096, min_length_tokens=128)
    corpus = open_corpus(tmp_path / "c.sqlite", listing, settings, TokenCounter(settings.tokenizer), "documents")
    report = corpus.report
    (manual,) = corpus.documents(None)
    assert corpus.load(manual.id).text == text
    corpus.close()
    assert report.dropped_by_reason == {
        "glyph names instead of letters": 1,
        "letters lost": 1,
        "list of links": 1,
    }
    assert report.cut_out_by_reason == {"contents page": 1}
    listed = {row["origin"].rpartition("/")[2]: row for row in read_jsonl(listing)}
    assert listed["private_use.txt"]["detail"] == "2% of its characters"
    assert listed["manual.txt#0"]["reason"] == "contents page"
    assert listed["manual.txt#0"]["excerpt"] == contents[:200]
    unchecked = DataSettings(**{**settings.model_dump(), "quality": "off"})
    corpus = open_corpus(tmp_path / "c.sqlite", listing, unchecked, TokenCounter(settings.tokenizer), "documents")
    assert corpus.report.usable == 4
    corpus.close()


def test_the_papers_preset_checks_no_text() -> None:
    assert DataSettings().quality == "check"
    assert DataSettings(preset="paper").quality == "off"
    assert DataSettings(preset="paper", quality="check").quality == "check"


def test_a_reason_keeps_what_stands_behind_its_brackets() -> None:
    stream = io.StringIO()
    LeftOut(stream).append(Skipped("package.json", "no text fields (has `name`); name the one with --text_field"))
    row = json.loads(stream.getvalue())
    assert (row["reason"], row["detail"]) == ("no text fields", "has `name`; name the one with --text_field")
