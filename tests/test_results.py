"""The pages of `docs/results/` say what the committed results say."""

from benchmarks.measure import RESULTS
from benchmarks.real_rows_page import PAGE, page


def test_the_page_on_real_rows_is_that_of_the_committed_result() -> None:
    assert page(RESULTS) == PAGE.read_text(encoding="utf-8")
