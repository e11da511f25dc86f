"""Collation, weights and sums of a step, against their definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longalign.core.batching import plan_steps
from longalign.core.length_bands import length_band
from longalign.core.weighting import WeightSchedule
from longalign.data.tokenize import TokenSequence
from longalign.errors import RunError
from longalign.train.collate import StepLoader, collate
from longalign.train.metrics import Groups, NllSums, idle_fraction


def sequence(length: int, seed: int = 0) -> TokenSequence:
    rng = np.random.default_rng(seed)
    target_T = rng.random(length) < 0.5
    target_T[:1] = False
    return TokenSequence(rng.integers(1, 50, length).astype(np.int32), target_T)


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6), layout=st.sampled_from(["padded", "packed"]))
def test_each_target_is_predicted_from_the_token_before_it_in_its_own_segment(lengths: list[int], layout: str) -> None:
    data = [sequence(n, i) for i, n in enumerate(lengths)]
    weight_of = {row: row + 1.0 for row in range(len(data))}
    m = collate(data, range(len(data)), weight_of, layout=layout, dtype=torch.float64)  # type: ignore[arg-type]
    bounds = m.cu_seqlens_S1.tolist()
    assert len(bounds) == len(data) + 1
    assert bounds[-1] == m.tokens == (max(lengths) * len(lengths) if layout == "padded" else sum(lengths))
    for row, (start, stop) in enumerate(pairwise(bounds)):
        ids = m.input_ids_1T[0, start:stop].tolist()
        expected = data[row]
        assert ids[: expected.length_tokens] == expected.ids_T.tolist()
        assert m.position_ids_1T[0, start:stop].tolist() == list(range(stop - start))
        for place in range(stop - start):
            target = int(m.target_ids_1T[0, start + place])
            trained = place + 1 < expected.length_tokens and bool(expected.target_T[place + 1])
            assert target == (expected.ids_T[place + 1] if trained else -100)
            assert float(m.weights_1T[0, start + place]) == (weight_of[row] if trained else 0.0)


def test_an_empty_microbatch_is_one_token_that_weighs_nothing() -> None:
    m = collate([], (), {}, layout="packed")
    assert m.tokens == 1
    assert m.target_ids_1T.tolist() == [[-100]]
    assert m.weights_1T.sum() == 0
    assert m.rows == ()


def test_weights_of_a_step_sum_to_one_over_all_ranks_and_the_schedule_switches() -> None:
    data = [sequence(n, n) for n in (3, 20, 7, 12, 5, 18)]
    counts = [s.target_count for s in data]
    plan = plan_steps(
        [s.length_tokens for s in data], counts, window=20, sequences_per_step=3, strategy="balanced", ranks=2
    )
    schedule = WeightSchedule("token", "sequence", switch=1)
    for step in range(len(plan)):
        batches = [
            StepLoader(data, plan, schedule, r, averaged_ranks=2, dtype=torch.float64).batch(step) for r in (0, 1)
        ]
        assert len({len(b.microbatches) for b in batches}) == 1, "every rank runs as many microbatches"
        total = sum(float(m.weights_1T.sum()) for b in batches for m in b.microbatches)
        assert total == pytest.approx(2.0), "ranks are averaged over"
        chosen = [counts[row] for row in plan[step].sequences]
        flat = {round(float(w), 12) for b in batches for m in b.microbatches for w in m.weights_1T[0] if w > 0}
        by_token = {round(2 / sum(chosen), 12)}
        assert flat == (
            by_token if step == 0 else {round(2 / (n * sum(c > 0 for c in chosen)), 12) for n in chosen if n}
        )


def test_sums_by_sequence_do_not_depend_on_how_positions_are_shared() -> None:
    """Two sequence-parallel ranks hold half of the positions each; their sums add up to the whole."""
    data = [sequence(n, n) for n in (9, 4, 14)]
    groups = Groups.of(np.array([9, 4, 14]), np.array([s.target_count for s in data]), np.array([0, 1, 0]), ["a", "b"])
    m = collate(data, (0, 1, 2), dict.fromkeys(range(3), 1.0), layout="packed")
    nll = torch.rand(1, 28) * torch.cat([(m.target_ids_1T >= 0).float(), torch.zeros(1, 1)], dim=1)
    whole = NllSums(groups)
    whole.add(m, nll[:, :27], torch.tensor(0.0))
    parts = [NllSums(groups, (number, 2)) for number in (0, 1)]
    for number, part in enumerate(parts):
        part.add(m, nll[:, 14 * number : 14 * (number + 1)], torch.tensor(0.0))
    np.testing.assert_allclose(sum(p.take() for p in parts), whole.take(), rtol=1e-6)


def test_a_loss_that_is_not_finite_names_step_microbatch_and_rows() -> None:
    data = [sequence(n, n) for n in (9, 4, 14)]
    groups = Groups.of(np.array([9, 4, 14]), np.array([s.target_count for s in data]), np.array([0, 1, 0]), ["a", "b"])
    sums = NllSums(groups)
    fine = collate(data, (0,), {0: 1.0}, layout="packed")
    sums.add(fine, torch.zeros(1, 9), torch.tensor(1.0))
    m = collate(data, (1, 2), {1: 1.0, 2: 1.0}, layout="packed")
    nll = torch.zeros(1, 18)
    nll[0, 10] = float("nan")
    sums.add(m, nll, torch.tensor(float("nan")))
    with pytest.raises(RunError, match=r"step 7: the loss is nan in microbatch 1 of rank 0, row 2 \(chat row 3\)"):
        sums.check(7, lambda rows: [f"chat row {row + 1}" for row in rows])


def test_every_row_is_in_the_band_of_its_length_and_in_its_source() -> None:
    lengths = np.array([3000, 1, 2, 64, 63, 65535, 65536, 2**31 - 1, 3])
    groups = Groups.of(lengths, np.ones(9, dtype=np.int64), np.arange(9) % 3, ["web", "books", "code"])
    assert [groups.bands[band] for band in groups.band_N] == [length_band(length) for length in lengths]
    assert [groups.sources[source] for source in groups.source_N] == ["web", "books", "code"] * 3
    assert groups.sources == ("books", "code", "web")
    assert [int(band.split("-")[0]) for band in groups.bands] == [1, 2, 32, 64, 2048, 32768, 65536, 2**30]


def test_bands_and_idle_time() -> None:
    assert [length_band(n) for n in (1, 2, 255, 256, 300, 511, 512)] == [
        "1-1", "2-3", "128-255", "256-511", "256-511", "256-511", "512-1023",
    ]  # fmt: skip
    assert idle_fraction(np.array([4.0, 2.0])) == 0.25
    assert idle_fraction(np.array([0.0, 0.0])) == 0.0
