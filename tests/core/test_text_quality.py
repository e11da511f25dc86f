"""Text that is no text is named, bad stretches are cut, and good text of any kind comes out as it went in."""

from __future__ import annotations

import base64
import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.core.text_quality import checked
from tests.makers.text import prose

HARBOUR = "The harbour office opened in 1911 and closed in 1974. "


def drawn_words(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9))) for _ in range(count)]


def contents(sections: int, leader: str = " . . . . . . . . ") -> str:
    return "\n".join(f"{1 + n // 7}.{1 + n % 7} How section {n} goes{leader}{3 * n + 1}" for n in range(sections))


def outline(sections: int) -> str:
    return "\n".join(f"{1 + n // 7}.{1 + n % 7}. How the section goes" for n in range(sections))


def links(count: int) -> str:
    return "\n".join(f"[{n}.0]: https://example.org/compare/{n}...{n + 1}" for n in range(count))


def index(entries: int) -> str:
    words = sorted(drawn_words(1, entries))
    return "\n".join(f"{word}, {n + 1}, {n + 7}-{n + 9}, {n + 30}" for n, word in enumerate(words))


def encoded(size: int) -> str:
    return base64.encodebytes(random.Random(2).randbytes(size)).decode()


def numbers(rows: int) -> str:
    rng = random.Random(3)
    return "\n".join(" ".join(f"{rng.random():.5f}" for _ in range(6)) for _ in range(rows))


def misread(text: str) -> str:
    """Every twentieth letter read as something else."""
    rng = random.Random(4)
    return "".join(rng.choice("0156;!|^") if char.isalpha() and rng.random() < 0.05 else char for char in text)


BAD = {
    "glyph names instead of letters": [
        "GLYPH<28>GLYPH<27>GLYPH<31> " * 300,
        "(cid:20)(cid:4) " * 300,
        "/g28/g3/g17 " * 300,
    ],
    "letters lost": [(HARBOUR * 60).replace("ff", "\ue000"), prose(1, 30).replace("th", "\ufffd")],
    "letters of a wrong charset": [
        ("Le café du port a fermé en été, à côté de la forêt. " * 40).encode().decode("latin-1"),
        ("Гавань открылась в прошлом году и закрылась зимой. " * 40)
        .encode()
        .decode("cp1252", "replace")
        .replace("\ufffd", "\x8f"),
    ],
    "contents page": [contents(60), contents(60, "........"), "Contents\n\n" + outline(60)],
    "index": [index(80), "\n".join(sorted(drawn_words(5, 400))), "\n".join(f"Node: N{n}\x7f{n}00" for n in range(50))],
    "list of links": [links(60), "\n".join(f"- [Part {n}](part{n}.html)" for n in range(9)) + "\n" + links(40)],
    "encoded data": [encoded(9000)],
    "data without words": [
        " ".join(f"_ZNSt18__moneypunct_cacheIwLb0EE{n:04}_M_cacheERKSt6localeGLIBCXX" for n in range(400))
    ],
    "table of numbers": [numbers(100), numbers(1000)],
    "repetition": [HARBOUR * 60, "港の事務所は一九一一年に開かれ、一九七四年に閉じられた。" * 60, prose(2, 20) * 30],
    "no running text": [" ".join(drawn_words(6, 2000))],
    "letters set apart": [" ".join(prose(3, 40).replace(" ", ""))],
    "navigation": ["\n".join(["Home | About | Contact | Login", "« Previous", "Next »", "Contents"] * 8)],
    "misread letters": [misread(re.sub(r"\d", "", prose(4, 80)))],
}


@pytest.mark.parametrize(("reason", "text"), [(reason, text) for reason, texts in BAD.items() for text in texts])
def test_bad_text_is_rejected_with_its_reason(reason: str, text: str) -> None:
    fault = checked(text.strip()).fault
    assert fault is not None
    assert fault.reason == reason


GOOD = {
    "prose": prose(5, 200),
    "Chinese": prose(6, 200, "zh"),
    "code": "\n\n".join(
        f'def {name}(count: int) -> int:\n    """Give {name} back."""\n    return {n} if count > {n} else 0'
        for n, name in enumerate(drawn_words(7, 60))
    ),
    "LaTeX": "\n".join(
        rf"\section{{On {a}}} We have ${a}_{{{n}}} \leq \frac{{{n}}}{{2}}$ by Lemma~\ref{{{b}}}, and the {b} part ends."
        for n, (a, b) in enumerate(zip(drawn_words(8, 60), drawn_words(9, 60), strict=True))
    ),
    "manual page": "NAME\n    tide - tell the tide\n\nSYNOPSIS\n    tide [-a] [-b] FILE\n\nOPTIONS\n"
    + "\n".join(
        f"    -{char}, --{word}\n        Show the {word} of each line."
        for char, word in zip("abcdefgh", drawn_words(10, 8), strict=True)
    ),
    "subtitles": "\n".join(
        f"Where is the {a}?\n- By the {b}, I think."
        for a, b in zip(drawn_words(11, 80), drawn_words(12, 80), strict=True)
    ),
    "mail": "From: ada@example.org\nTo: ben@example.org\nSubject: The tide\n\n" + prose(7, 20) + "\n\n> " + prose(8, 4),
    "verse": "\n".join(
        f"And {a} was all the {b} we had," for a, b in zip(drawn_words(13, 60), drawn_words(14, 60), strict=True)
    ),
    "table in prose": prose(9, 20) + "\n\n" + numbers(40) + "\n\n" + prose(10, 20),
    "table with names": "\n".join(
        f"{word} | {n} | {n * 7} | {n / 3:.2f}" for n, word in enumerate(sorted(drawn_words(15, 90)))
    ),
    "change log": "\n\n".join(
        f"boat (1.{n}) unstable; urgency=low\n\n  * Mend {word}. (Closes: #{9000 + n})\n\n -- Ada <ada@example.org>"
        for n, word in enumerate(drawn_words(16, 40))
    ),
    "dictionary": "\n\n".join(
        f"{word} n.\n1. A kind of {other} that is used at sea."
        for word, other in zip(sorted(drawn_words(17, 80)), drawn_words(18, 80), strict=True)
    ),
    "numbered steps": "\n".join(f"{n}. Lift the {word} and wait." for n, word in enumerate(drawn_words(19, 40), 1)),
    "questions of a dialogue": "\n".join(f"— {word}……" for word in drawn_words(20, 60)),
    "short": "Too short to tell.",
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_text_of_any_kind_comes_out_as_it_went_in(kind: str) -> None:
    found = checked(GOOD[kind], code=kind == "code")
    assert found.fault is None
    assert found.cuts == ()
    assert found.text is GOOD[kind]


STRETCHES = {
    "contents page": [contents(12), outline(20), contents(9, "……") + "\nChapter 2\n" + contents(9, "……")],
    "index": [index(30)],
    "list of links": [links(10)],
    "encoded data": [encoded(700).strip()],
    "table of numbers": [numbers(320)],
    "navigation": [
        "Home | About | Contact | Login",
        "Next: Tides, Previous: Boats, Up: Top",
        "上一页 | 目录 | 下一页",
        "Home\nMenu\nAbout",
    ],
}
CASES = [(reason, text) for reason, texts in STRETCHES.items() for text in texts]


@given(st.integers(0, 5), st.sampled_from(CASES), st.integers(0, 40))
def test_a_bad_stretch_is_cut_out_and_nothing_else(seed: int, case: tuple[str, str], place: int) -> None:
    reason, stretch = case
    paragraphs = prose(30 + seed, 160).split("\n\n")
    text = "\n\n".join([*paragraphs[:place], stretch, *paragraphs[place:]])
    found = checked(text)
    assert found.fault is None
    assert found.text == "\n\n".join(paragraphs)
    assert {cut.reason for cut in found.cuts} == {reason}
    for cut in found.cuts:
        assert text[cut.start :].startswith(cut.text)


LINES = [
    "Tides",
    "1.1 On tides",
    "1.2 On boats",
    "2 Harbours",
    "Tides . . . . . . 12",
    "Boats........4",
    "Home",
    "Next",
    "Contents",
    "Home | About | Contact | Login",
    "https://example.org/a",
    "[a]: https://example.org/b",
    "boat, 1, 7",
    "tide, 3, 4-5",
    "0.1 0.2 0.3",
    "12",
    "QUJD" * 16 + "1x2",
    "The boat left the harbour at dawn.",
    "And came back by night",
    "",
    "-----",
]
MESSY = st.lists(st.tuples(st.sampled_from(LINES), st.integers(1, 25)), max_size=20).map(
    lambda runs: "\n".join(line for line, times in runs for _ in range(times)).strip()
)


@given(MESSY)
def test_checking_twice_changes_nothing_more(text: str) -> None:
    once = checked(text)
    if once.fault is None:
        twice = checked(once.text)
        assert (twice.text, twice.cuts, twice.fault) == (once.text, (), None)


@given(MESSY, st.sampled_from(["{}  ", "  {}", "\t{}", "{}\n", "{}\n\n\n"]))
def test_blank_lines_and_white_space_around_lines_do_not_matter(text: str, form: str) -> None:
    other = "\n".join(form.format(line) for line in text.split("\n")).strip()
    one, two = checked(text), checked(other)
    assert one.fault == two.fault
    assert one.text.split() == two.text.split()
    assert [cut.reason for cut in one.cuts] == [cut.reason for cut in two.cuts]


def test_nothing_is_cut_out_of_source_code() -> None:
    text = GOOD["code"] + "\n\nKEY = '''\n" + encoded(700) + "'''\n" + GOOD["code"]
    assert checked(text).cuts
    assert checked(text, code=True).text is text
    assert checked(numbers(400), code=True).fault is not None
