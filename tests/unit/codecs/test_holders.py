"""Distinct entities counted with witnesses, and marks that lie where many are."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genpipe.codecs.holders import WITNESSES, Crowd, Holders, coarse
from genpipe.errors import DataError


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(2, 30))
def test_witnesses_count_entities_exactly_up_to_their_number_however_rows_are_cut(
    seed: int, pieces: int, least: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12, 600).astype(np.uint64)
    who = (rng.pareto(0.5, 600) * 10).clip(0, 1e6).astype(np.uint64)  # a few have most of the rows
    parts = np.array_split(rng.permutation(600), pieces)
    held = reduce(Holders.merge, (Holders.of(values[p], who[p], least=least) for p in parts))
    whole = Holders.of(values, who, least=least)
    assert held.values is not None and whole.values is not None
    assert (held.values == whole.values).all() and (held.entities == whole.entities).all()
    most = max(WITNESSES, least)
    wanted = [min(most, len(set(who[values == v].tolist()))) for v in range(13)]
    assert held.count(np.arange(13, dtype=np.uint64)).tolist() == wanted
    index, entity = held.who(np.array([3, 12, 0], np.uint64))
    assert set(entity[index == 0].tolist()) <= set(who[values == 3].tolist()) and not (index == 1).any()


def test_too_many_values_are_let_go_of_whatever_comes_later() -> None:
    def of(n: int) -> Holders:
        return Holders.of(np.arange(n).astype(np.uint64), np.ones(n, np.uint64), least=5, limit=50)

    assert of(50).values is not None and of(51).values is None
    assert of(30).merge(of(40)).values is not None and of(51).merge(of(1)).values is None


def test_no_sum_or_difference_of_coarse_counts_tells_one_to_four() -> None:
    counts = np.arange(200)
    told = coarse(counts, 5)
    assert (told % 5 == 0).all() and (told[5:] > 0).all() and np.abs(told - counts)[5:].max() <= 2
    assert coarse([1, 7], 0).tolist() == [1, 7]


@pytest.mark.parametrize("whole", [True, False])
def test_ends_have_enough_entities_beyond_or_near_and_are_none_of_theirs(whole: bool) -> None:
    rng = np.random.default_rng(0)
    for rows in (6, 9, 40, 2_000):
        points = np.sort(rng.normal(0, 1e6, rows))
        points = np.unique(points.astype(np.int64)) if whole else points
        crowd = Crowd(5, points)
        low, high = crowd.ends(float(whole))
        assert low < high and not np.isin([low, high], points).any()
        if rows >= 40:
            assert (points <= low).sum() < 5 <= (points < low + (high - low) / 4).sum()
    assert Crowd(3, np.array([1, 1, 1, 2, 50])).ends(1.0)[0] == 1  # as many have it
    # one entity's many rows are one
    one = Crowd(3, np.arange(20.0) + 0.3, np.array([0] * 15 + [1, 2, 3, 4, 5]))
    assert one.ends(0.0)[1] > 17
    with pytest.raises(DataError, match="2 entities; expected at least 3"):
        Crowd(3, np.arange(9.0), np.arange(9) % 2).ends(0.0)


def test_cuts_snap_to_round_numbers_with_enough_entities_on_both_sides_together() -> None:
    points = np.sort(np.random.default_rng(0).lognormal(8, 1, 500))
    crowd, cuts = Crowd(5, points), np.quantile(points, [0.1, 0.37, 0.5, 0.9, 0.99])
    snapped = crowd.snapped(cuts)
    assert not np.isin(snapped, points).any() and (np.diff(snapped) > 0).all()
    for cut, was in zip(snapped, cuts, strict=True):
        step = 1.0
        while cut % (2 * step) == 0:
            step *= 2
        assert (np.abs(points - cut) <= step / 2).sum() >= 5
        assert abs((points < cut).sum() - (points < was).sum()) < 25
