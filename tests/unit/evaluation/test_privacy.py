"""Nearest records against a brute-force loop, and the balanced share against its meaning."""

from __future__ import annotations

import numpy as np
import pytest

from genpipe.evaluation.base import Points
from genpipe.evaluation.privacy import nearest as privacy


def cloud(rows: int, seed: int, *, shift: float = 0.0) -> Points:
    rng = np.random.default_rng(seed)
    return Points(rng.normal(shift, 1, (rows, 3)), rng.integers(0, 3, (rows, 2)))


@pytest.mark.parametrize("cells", [10, 1000, 10**7])
def test_nearest_equals_the_plain_loop_whatever_the_chunk(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "CHUNK_CELLS", cells)
    rows, reference = cloud(23, 1), cloud(57, 2)
    wanted = [
        min(
            float(np.sqrt(((a - b) ** 2).sum() + (c != d).sum()))
            for b, d in zip(reference.numeric, reference.codes, strict=True)
        )
        for a, c in zip(rows.numeric, rows.codes, strict=True)
    ]
    np.testing.assert_allclose(privacy.nearest(rows, reference).distance, wanted, rtol=1e-9)


def test_a_copy_is_at_distance_zero_even_far_from_the_origin() -> None:
    reference = cloud(40, 3, shift=1e4)
    found = privacy.nearest(reference[5:9], reference)
    assert found.distance.tolist() == [0, 0, 0, 0]
    assert found.index.tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("train_rows", [200, 1000, 4000])
def test_the_share_of_an_honest_generator_is_a_half_whatever_the_sizes(train_rows: int) -> None:
    made, train, holdout = cloud(2000, 4), cloud(train_rows, 5), cloud(500, 6)
    share = privacy.share_nearer_train(
        privacy.nearest(made, train), privacy.nearest(made, holdout), len(train), len(holdout)
    )
    assert abs(share.value - 0.5) < 4 * share.error + 0.02
    assert share.error < 0.03


def test_the_share_of_a_copier_is_near_one_and_half_a_copier_lies_between() -> None:
    train, holdout = cloud(2000, 5), cloud(500, 6)
    shares = []
    for copied in (0, 250, 500):
        made = Points(
            np.concatenate([train.numeric[:copied], cloud(500 - copied, 8).numeric]),
            np.concatenate([train.codes[:copied], cloud(500 - copied, 8).codes]),
        )
        shares.append(
            privacy.share_nearer_train(
                privacy.nearest(made, train), privacy.nearest(made, holdout), 2000, 500
            ).value
        )
    assert shares[0] < 0.6 < shares[1] < shares[2]
    assert shares[2] > 0.99


def test_ties_count_as_chance() -> None:
    nothing = privacy.Nearest(np.zeros(100), np.arange(100))
    assert privacy.share_nearer_train(nothing, nothing, 800, 200).value == pytest.approx(0.5)


def test_rows_that_share_one_nearest_record_prove_nothing() -> None:
    train, holdout = cloud(800, 1), cloud(200, 2)
    far = Points(cloud(300, 3, shift=1000).numeric / 1000 + 500, np.zeros((300, 2), dtype=np.int64))
    share = privacy.share_nearer_train(privacy.nearest(far, train), privacy.nearest(far, holdout), 800, 200)
    assert share.value - 3 * share.error < 0.5


def test_copies_and_distinct_count_rows() -> None:
    train = cloud(100, 1)
    made = Points(
        np.concatenate([train.numeric[:30], cloud(70, 2).numeric]),
        np.concatenate([train.codes[:30], cloud(70, 2).codes]),
    )
    equal, closest = privacy.Equals(made=made, train=train), privacy.Closest(made)
    for piece in (train[:20], train[20:]):
        equal.see(piece)
        closest.see(piece)
    at_once = privacy.nearest(made, train)
    assert np.array_equal(closest.found.index, at_once.index)
    assert np.array_equal(closest.found.distance, at_once.distance) and closest.seen == 100
    assert equal.share("made") == pytest.approx(0.3) and equal.share("train") == 1.0
    assert (privacy.nearest(made, train).distance == 0).mean() == pytest.approx(0.3)
    assert privacy.distinct(train[[0, 0, 0, 1]]) == pytest.approx(0.5)


def test_coverage_is_full_for_equals_and_empty_far_away() -> None:
    real = cloud(200, 1)
    within = privacy.reach(real)
    assert privacy.coverage(real, real, within) == 1.0
    assert privacy.coverage(real, cloud(200, 2), within) > 0.85
    assert privacy.coverage(real, cloud(200, 2, shift=50), within) == 0.0
    assert privacy.coverage(real, real[[7] * 200], within) < 0.1
    rng = np.random.default_rng(0)  # pixels: float32, of which many pictures are equal
    few = Points(rng.random((50, 64), dtype=np.float32), np.zeros((50, 0), np.int64))
    many = few[rng.integers(0, 50, 1000)]
    assert privacy.coverage(many, many, privacy.reach(many)) == 1.0


def test_codes_of_any_number_of_columns_and_values_count_as_many_mismatches() -> None:
    rng = np.random.default_rng(0)
    a, b = (Points(rng.normal(size=(40, 2)), rng.integers(0, 700, (40, 300))) for _ in range(2))
    a.codes[:, 7] = b.codes[:, 7] = 5  # a column that never differs
    wanted = ((a.numeric[:, None] - b.numeric[None]) ** 2).sum(2) + (a.codes[:, None] != b.codes[None]).sum(2)
    found = privacy.nearest(a, b)
    np.testing.assert_allclose(found.distance, np.sqrt(wanted.min(1)), rtol=1e-9)
    assert np.array_equal(found.index, wanted.argmin(1))
