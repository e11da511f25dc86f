"""The README quotes what was measured, letter by letter."""

from benchmarks.demo import README, RESULT, claim, quote, read


def test_the_claim_in_the_readme_is_the_committed_result() -> None:
    text = README.read_text(encoding="utf-8")
    assert quote(claim(read(RESULT)), text) == text
