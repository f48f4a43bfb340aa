"""Cells and scores of ordered values: order, spikes, tails, limits, privacy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genpipe.codecs.scale import Axis, Cells, Score, make_axis, make_cells, make_score, trim
from genpipe.errors import DataError
from genpipe.schema import Date, Integer, Number


def cells_of(values: np.ndarray, *, bins: int = 100, rare: int = 0) -> tuple[Axis, Cells]:
    whole = values.dtype.kind == "i"
    field = Integer(name="n") if whole else Number(name="n")
    axis = make_axis(field, step=int(whole), low=values.min().item(), high=values.max().item())
    points, counts = np.unique(axis.points(values), return_counts=True)
    return axis, make_cells(points, counts, axis, rows=len(values), bins=bins, rare=rare)


def test_codes_follow_the_order_of_the_values() -> None:
    values = np.random.default_rng(0).normal(size=5_000)
    values[:1_000] = 0.5  # a spike among real numbers
    _, cells = cells_of(np.sort(values))
    codes = cells.encode(np.sort(values))
    assert np.diff(codes).min() >= -1  # an atom stands beside the bin it lies in
    plain = codes[np.sort(values) != 0.5]
    assert (np.diff(plain) >= 0).all()
    assert set(np.unique(codes)) == set(range(cells.size))
    assert cells.atoms.tolist() == [0.5]
    again = cells.decode(codes, np.random.default_rng(1))
    assert (again[np.sort(values) == 0.5] == 0.5).all()
    again = again[np.sort(values) != 0.5]
    assert (np.diff(again)[np.diff(plain) > 0] > 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(-(2**62), 2**62 - 1), min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 3)
)
def test_any_code_is_within_the_extremes_and_atoms_are_exact(values: list[int], bins: int, rare: int) -> None:
    data = np.array(values, dtype=np.int64)
    axis, cells = cells_of(data, bins=bins, rare=rare)
    points = axis.points(data)
    codes = cells.encode(points)
    assert (codes >= 0).all() and (codes < cells.size).all()
    back = axis.arrow(cells.decode(codes, np.random.default_rng(0)), None).to_numpy()
    assert back.min() >= data.min() and back.max() <= data.max()
    atom = np.isin(points, cells.atoms)
    assert (back[atom] == points[atom] * axis.step).all()
    if rare == 0 and len(set(values)) <= 2 * bins:
        assert atom.all()


def test_draws_between_atoms_never_hit_an_atom_of_a_lattice() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.integers(0, 2_000, 20_000), np.repeat(np.arange(0, 2_000, 100), 500)])
    _, cells = cells_of(values)
    assert set(range(0, 2_000, 100)) <= set(cells.atoms.tolist())
    back = cells.decode(cells.encode(values), np.random.default_rng(1))
    assert (back % 100 == 0).sum() == (values % 100 == 0).sum()


def test_tails_keep_moments_and_correlation() -> None:
    rng = np.random.default_rng(0)
    base = rng.lognormal(0, 1.2, 30_000)
    twin = base * rng.lognormal(0, 0.1, 30_000)
    back = []
    for values in (base, twin):
        _, cells = cells_of(values)
        back.append(cells.decode(cells.encode(values), np.random.default_rng(len(back))))
    assert abs(np.corrcoef(*back)[0, 1] - np.corrcoef(base, twin)[0, 1]) < 0.02
    assert abs(back[0].std() / base.std() - 1) < 0.05
    assert max(cells_of(base)[1].size, cells_of(twin)[1].size) < 140


def test_no_draw_is_a_training_value_but_for_atoms() -> None:
    values = np.random.default_rng(0).normal(size=3_000)
    _, cells = cells_of(values)
    back = cells.decode(cells.encode(values), np.random.default_rng(1))
    assert not np.isin(back, values).any()


def test_rare_values_are_no_atoms_and_no_extremes() -> None:
    values = np.array([1] * 50 + [2] * 50 + [3] * 3 + [999])
    points, counts = trim(*np.unique(values, return_counts=True), rows=104, rare=4)
    assert points.tolist() == [1, 2, 3] and counts.tolist() == [50, 50, 4]
    _, cells = cells_of(values, rare=4)
    assert cells.atoms.tolist() == [1, 2]


@pytest.mark.parametrize("size", [2, 3, 50, 100_000])
def test_a_score_inverts_itself(size: int) -> None:
    values = np.unique(np.random.default_rng(0).standard_t(2, size))
    score = make_score(values, np.ones(len(values), dtype=np.int64))
    scores = score.encode(values)
    assert scores.min() == -1.0 and scores.max() == 1.0 and (np.diff(scores) > 0).all()
    assert np.abs(score.decode(scores.astype(np.float32)) - values).max() <= score.error()
    assert (score.decode(np.array([-9.0, 9.0, np.nan])) == score.decode(np.array([-1.0, 1.0, 0.0]))).all()


def test_a_score_of_many_values_is_normal_inside() -> None:
    score: Score = make_score(
        np.sort(np.random.default_rng(0).exponential(size=50_000)), np.ones(50_000, np.int64)
    )
    scores = score.encode(np.random.default_rng(1).exponential(size=50_000))
    middle, spread = scores.mean(), scores.std()
    assert abs(((scores - middle) ** 3).mean() / spread**3) < 0.1
    assert abs(((scores - middle) ** 4).mean() / spread**4 - 3) < 0.2


def test_an_axis_keeps_steps_decimals_and_the_limits_of_the_schema() -> None:
    axis = make_axis(Integer(name="n", minimum=-250), step=100, low=-900, high=1_234_500)
    assert axis.arrow(np.array([-99, 3, 10**9]), None).to_pylist() == [-200, 300, 1_234_500]
    axis = make_axis(Number(name="n", decimals=2, minimum=0.005, maximum=0.995), step=0, low=-3.0, high=7.0)
    assert axis.arrow(np.array([-5, 29, 500]), None).to_pylist() == [0.01, 0.29, 0.99]
    assert axis.points(np.array([0.29, 0.57, 1.15])).tolist() == [29, 57, 99]
    axis = make_axis(Number(name="n", decimals=4), step=0, low=0.0, high=1e14)
    assert not axis.whole  # too large for a lattice of doubles
    axis = make_axis(Date(name="d"), step=1, low=-700_000, high=0)
    assert axis.arrow(np.array([-(2**40)]), None)[0].as_py().year == 53
    with pytest.raises(DataError, match="n: every value outside minimum and maximum"):
        make_axis(Number(name="n", minimum=5), step=0, low=0.0, high=1.0)


def test_the_whole_range_of_int64_stays_legal() -> None:
    values = np.array([-(2**63), -1, 0, 1, 2**63 - 1])
    axis, cells = cells_of(values, bins=1)
    assert axis.step > 1
    back = axis.arrow(cells.decode(np.arange(-3, 9), np.random.default_rng(0)), None).to_numpy()
    assert back.min() >= -(2**63) and back.max() <= 2**63 - 1
