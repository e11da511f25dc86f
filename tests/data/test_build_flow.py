"""The continuous flow gives what waves of exactly the missing candidates gave, whatever comes back when."""

from itertools import islice
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from longalign.data.build_flow import Flow, Started
from tests.oracles.waves import waves

GROUPS = ("zh", "other")
FATES = st.lists(st.sampled_from("yyyyn12"), max_size=30)  # accepted, rejected, or the question of document 1 or 2


def run(fates: dict[str, list[str]], quotas: dict[str, int], slots: int, pick: Any, **how: Any) -> tuple[Any, ...]:
    """Accepted and tried candidates in the order they count, and the most that were started beyond the tried."""
    flow = Flow({group: iter(fates[group]) for group in quotas}, quotas, **how)
    under_way: list[Started[str]] = []
    started = 0
    tried: list[tuple[str, int]] = []
    accepted: list[tuple[str, int]] = []
    asked: set[tuple[str, str]] = set()
    while True:
        for _ in range(slots - len(under_way)):
            if (candidate := flow.start()) is not None:
                under_way.append(candidate)
                started += 1
        if not under_way:
            return accepted, tried, started
        candidate = under_way.pop(pick(len(under_way)))
        flow.finish(candidate, candidate.item != "n")
        for due in flow.ready():
            tried.append((due.group, due.number))
            repeated = due.item in "12" and (due.group, due.item) in asked
            asked.add((due.group, due.item))
            if due.item != "n" and not repeated:
                accepted.append((due.group, due.number))
            flow.decide(due, due.item != "n" and not repeated)


@given(FATES, FATES, st.integers(0, 12), st.integers(0, 12), st.integers(1, 9), st.randoms(), st.none() | st.just(3))
def test_rows_and_tried_candidates_are_those_of_waves(
    zh: list[str], other: list[str], zh_rows: int, other_rows: int, slots: int, random: Any, first: int | None
) -> None:
    fates, quotas = {"zh": zh, "other": other}, {"zh": zh_rows, "other": other_rows}
    wanted, wanted_tried = waves(fates, quotas)
    accepted, tried, started = run(fates, quotas, slots, random.randrange, first=first)
    assert set(accepted) == set(wanted)
    assert set(tried) == set(wanted_tried)
    assert started == len(tried)  # nothing is worked on that is not needed
    one_by_one = run(fates, quotas, 1, lambda count: 0, first=first)
    assert (accepted, tried) == one_by_one[:2]  # also in the same order


@given(st.integers(1, 20), st.integers(1, 8))
def test_slots_are_full_while_as_many_rows_are_missing(rows: int, slots: int) -> None:
    flow = Flow({"other": iter(range(1000))}, {"other": rows})
    under_way = list(islice(iter(flow.start, None), slots))
    held = under_way.pop(0)  # never answered
    missing = rows
    while under_way:
        assert len(under_way) + 1 == min(slots, missing)
        candidate = under_way.pop()
        flow.finish(candidate, candidate.number % 3 != 0)
        missing -= candidate.number % 3 != 0
        assert list(flow.ready()) == []  # the first is not decided
        if (following := flow.start()) is not None:
            under_way.append(following)
    flow.finish(held, True)
    assert flow.running == 0


def test_a_model_that_gives_nothing_costs_no_more_than_the_trial() -> None:
    flow = Flow({"other": iter(range(1000))}, {"other": 500}, first=5)
    trial = list(iter(flow.start, None))
    assert len(trial) == 5
    for candidate in trial[1:]:
        flow.finish(candidate, False)
        assert flow.start() is None
    flow.finish(trial[0], True)
    assert flow.start() is not None


def test_after_the_money_ran_out_what_was_under_way_still_counts() -> None:
    flow = Flow({"zh": iter("ab"), "other": iter("cdef")}, {"zh": 2, "other": 3})
    under_way = list(iter(flow.start, None))
    flow.stop()
    for candidate in under_way:
        flow.finish(candidate, None if candidate.item in "ac" else True)
    counted = []
    for due in flow.ready():
        counted.append(due.item)
        flow.decide(due, True)
    assert sorted(counted) == ["b", "d", "e"]
    assert flow.start() is None
