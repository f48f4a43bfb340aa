"""How numbers are written inside their bins: what comes back through the codec ends as it did."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs import CODECS
from genpipe.codecs.base import Codec, CodecConfig, fit
from genpipe.codecs.endings import GRAINS, Endings, fit_endings
from genpipe.codecs.tabular.numeric import Scale
from genpipe.fields import AnyField, Integer, Number
from genpipe.schema import Schema

ROWS = 8_000


def fitted(field: AnyField, values: np.ndarray) -> tuple[Codec, pa.RecordBatch]:
    schema = Schema(kind="tabular", fields=(field,))
    batch = pa.RecordBatch.from_pydict({field.name: values}).cast(schema.arrow())
    return fit(CODECS["tabular"], schema, [batch], CodecConfig()), batch


def back(field: AnyField, values: np.ndarray) -> np.ndarray:
    codec, batch = fitted(field, values)
    made = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(1))
    assert codec.encode(made, "tokens")["x"].tolist() == codec.encode(batch, "tokens")["x"].tolist()
    return made[field.name].to_numpy()


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_prices_stay_multiples_of_a_thousand() -> None:
    """Eight of ten end in 000; the others are multiples of ten, none of which five rows have."""
    size = rng().lognormal(12, 0.6, ROWS)
    unit = np.where(np.arange(ROWS) % 10 < 8, 1000, 10)
    price = (np.rint(size / unit) * unit).astype(int)
    made = back(Integer(name="price"), price)
    for multiple in (10, 1000):
        assert (made % multiple == 0).mean() == pytest.approx((price % multiple == 0).mean(), abs=0.02)


def test_clock_times_stop_before_sixty_minutes() -> None:
    """HHMM as a whole number: even draws make 13:75 of them."""
    minutes = np.where(rng().random(ROWS) < 0.8, 5 * rng().integers(0, 12, ROWS), rng().integers(0, 60, ROWS))
    clock = rng().integers(0, 24, ROWS) * 100 + minutes
    made = back(Integer(name="clock"), clock)
    assert (made % 100 >= 60).mean() < 0.01
    assert (made % 5 == 0).mean() == pytest.approx((clock % 5 == 0).mean(), abs=0.06)


def test_amounts_end_in_ninety_nine() -> None:
    amount = np.floor(rng().lognormal(3, 1, ROWS)) + np.where(np.arange(ROWS) % 10 < 6, 0.99, 0.5)
    made = back(Number(name="amount", decimals=2), amount)
    cents = [np.rint(a * 100) % 100 for a in (amount, made)]
    assert (cents[1] == 99).mean() == pytest.approx((cents[0] == 99).mean(), abs=0.03)


def test_real_numbers_that_many_share_come_back() -> None:
    """A third has one of forty values of any precision, the others have each their own."""
    shared = rng().normal(size=40)
    values = np.where(np.arange(ROWS) % 3 == 0, shared[np.arange(ROWS) % 40], rng().normal(size=ROWS))
    made = back(Number(name="x"), values)
    assert np.isin(made, shared).mean() == pytest.approx(1 / 3, abs=0.03)
    assert not np.isin(made, values[~np.isin(values, shared)]).any()


def test_what_fewer_than_five_rows_have_is_not_kept() -> None:
    values = np.concatenate(
        [np.arange(2_000, 6_000), np.repeat(np.arange(7_001, 7_101), 4), np.repeat(9_000, 9)]
    )
    codec, _ = fitted(Integer(name="n"), values)
    (column,) = codec.columns  # type: ignore[attr-defined]
    assert isinstance(column, Scale) and column.cells.endings is not None
    assert set(column.cells.endings.points) <= {9_000}


def test_the_form_of_before_draws_evenly() -> None:
    """A codec of version 3 has no endings; the same numbers are drawn as then."""
    codec, batch = fitted(Integer(name="n"), np.rint(rng().lognormal(8, 1, ROWS)).astype(int) * 10)
    content = json.loads(json.dumps(codec.to_json()))
    assert CODECS["tabular"].from_json(codec.schema, content).to_json() == content
    cells = content["columns"]["n"]["cells"]
    assert cells.pop("endings")["grains"]
    old = CODECS["tabular"].from_json(codec.schema, content | {"version": 3})
    codes = codec.encode(batch, "tokens")
    drawn = old.decode(codes, "tokens", np.random.default_rng(1))["n"].to_numpy()
    assert 0.05 < (drawn // codec.columns[0].axis.step % 10 == 0).mean() < 0.2  # type: ignore[attr-defined]


ENDINGS = Endings(
    np.array([20, 30]),
    np.array([0, 0]),
    np.array([0.5, 0.25]),
    np.array([[0.5, 0, 0, 0.5] + [0] * 12, [1.0] + [0] * 15]),
)


def test_shares_worked_out_by_hand() -> None:
    """Bin 0 is 0 .. 99: half are 20, a quarter 30, of the last quarter half are multiples of ten."""
    which, ends = np.zeros(40_000, int), np.tile([0, 99], (40_000, 1))
    draws = np.random.default_rng(0)
    made = ENDINGS.draw(which, draws.integers(0, 100, 40_000), ends, draws)
    assert (made == 20).mean() == pytest.approx(0.5 + 0.25 * (0.5 * 0.1 + 0.5 * 0.01), abs=0.01)
    assert (made == 30).mean() == pytest.approx(0.25 + 0.25 * (0.5 * 0.1 + 0.5 * 0.01), abs=0.01)
    assert (made % 10 == 0).mean() == pytest.approx(0.75 + 0.25 * (0.5 + 0.5 * 0.1), abs=0.01)


def test_densities_add_up_to_one() -> None:
    points = np.arange(100)
    found = ENDINGS.log_density(np.zeros(100, int), points, np.full(100, -np.log(100.0)))
    assert np.exp(found).sum() == pytest.approx(1.0, abs=1e-6)
    assert np.exp(found[20]) == pytest.approx(0.5 + 0.25 * (0.5 * 0.01 + 0.5 * 0.1))


def test_few_others_of_a_bin_are_not_drawn() -> None:
    """4 of 100 rows have a value of their own: the kept ones are all there is."""
    points, counts = np.array([10, 20, 21, 22, 23, 24]), np.array([60, 36, 1, 1, 1, 1])
    found = fit_endings(points, counts, np.zeros(6, int), counts > 4, 1, k=5, whole=True)
    assert found.points.tolist() == [10, 20] and found.kept.tolist() == [1.0]
    assert found.grains.shape == (1, len(GRAINS))


def test_numbers_that_end_in_anything_still_do() -> None:
    """Room numbers: every tenth is a multiple of ten by chance, and no more are made of them."""
    rooms = rng().integers(100, 40_000, ROWS)
    made = back(Integer(name="rooms"), rooms)
    for multiple in (5, 10, 100):
        assert (made % multiple == 0).mean() == pytest.approx(1 / multiple, abs=0.012)
