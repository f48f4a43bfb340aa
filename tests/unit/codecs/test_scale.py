"""Cells and scores of ordered values: order, spikes, tails, limits, privacy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genpipe.codecs.fitting import make_cells, make_score, within
from genpipe.codecs.holders import Crowd
from genpipe.codecs.scale import Axis, Cells, Score, make_axis
from genpipe.errors import DataError
from genpipe.fields import Date, Integer, Number


def cells_of(values: np.ndarray, *, bins: int = 100, rare: int = 0) -> tuple[Axis, Cells]:
    whole = values.dtype.kind == "i"
    field = Integer(name="n") if whole else Number(name="n")
    axis = make_axis(field, step=int(whole), low=values.min().item(), high=values.max().item())
    crowd = held = None
    if rare:
        crowd = Crowd.of(rare, *np.unique(values, return_counts=True))
        axis = within(axis, crowd)
    points, counts = np.unique(axis.points(values), return_counts=True)
    if crowd is not None:
        held = crowd.at(axis.places(crowd.points)).held(points)
        crowd = crowd.at(axis.points(crowd.points))
    return axis, make_cells(points, counts, axis, bins=bins, crowd=crowd, held=held)


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
    st.lists(st.integers(-(2**62), 2**62 - 1), min_size=1, max_size=60),
    st.integers(1, 4),
    st.sampled_from([0, 2, 3]),
)
def test_any_code_is_within_the_extremes_and_atoms_are_exact(values: list[int], bins: int, rare: int) -> None:
    data = np.array(values * max(1, rare), dtype=np.int64)
    axis, cells = cells_of(data, bins=bins, rare=rare)
    points = axis.points(data)
    codes = cells.encode(points)
    assert (codes >= 0).all() and (codes < cells.size).all()
    back = axis.arrow(cells.decode(codes, np.random.default_rng(0)), None).to_numpy()
    assert back.min() >= axis.low * axis.step and back.max() <= axis.high * axis.step
    if not rare:
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
    axis, cells = cells_of(values, rare=4)
    assert cells.atoms.tolist() == [1, 2]
    assert axis.low == 1 and axis.high < 999


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(10, 400), st.integers(2, 6), st.booleans())
def test_what_is_written_down_lies_near_many_and_is_nobodys_value(
    seed: int, rows: int, k: int, real: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.lognormal(8, 2, rows) if real else rng.integers(0, 10**9, rows)
    axis, cells = cells_of(values, rare=k)
    told = [axis.low, axis.high, *cells.edges.ravel(), *(cells.point(cells.edges.ravel() + 0.5))]
    assert cells.size and not len(cells.atoms)
    assert not np.isin(np.array(told, dtype=values.dtype), values).any()
    back = cells.decode(cells.encode(values), rng)
    assert np.isin(back, values).mean() < 0.01
    if not real:
        assert (axis.arrow(back, None).to_numpy() == back).all()


def test_a_value_of_one_entity_is_no_atom_and_no_edge_however_often_it_has_it() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.full(500, 37.25), rng.normal(40, 10, 300)])
    who = np.concatenate([np.zeros(500, np.int64), rng.integers(1, 60, 300)])
    points, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    crowd = Crowd.of(5, points, counts, (index, who))
    axis = within(make_axis(Number(name="n"), step=0, low=points[0], high=points[-1]), crowd)
    clipped = np.unique(axis.points(points))
    weights = np.bincount(np.searchsorted(clipped, axis.points(values)))
    held = crowd.held(clipped)
    cells = make_cells(clipped, weights, axis, bins=100, crowd=crowd.at(axis.points(crowd.points)), held=held)
    assert not len(cells.atoms) and not np.isin(cells.edges, values).any()
    codes = cells.encode(axis.points(values))
    assert min(len(np.unique(who[codes == c])) for c in np.unique(codes)) >= 5


@pytest.mark.parametrize("size", [2, 3, 50, 100_000])
def test_a_score_inverts_itself(size: int) -> None:
    values = np.unique(np.random.default_rng(0).standard_t(2, size))
    score = make_score(values, np.ones(len(values), dtype=np.int64), (values[0], values[-1]))
    scores = score.encode(values)
    assert scores.min() == -1.0 and scores.max() == 1.0 and (np.diff(scores) > 0).all()
    assert np.abs(score.decode(scores.astype(np.float32)) - values).max() <= score.error()
    assert (score.decode(np.array([-9.0, 9.0, np.nan])) == score.decode(np.array([-1.0, 1.0, 0.0]))).all()


def test_a_score_of_many_values_is_normal_inside() -> None:
    values = np.sort(np.random.default_rng(0).exponential(size=50_000))
    score: Score = make_score(values, np.ones(50_000, np.int64), (values[0], values[-1]))
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
