"""Sums, equal columns and orders found in a sample; none where columns were shuffled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from genpipe.fields import AnyField, Date, Integer, Number, Timestamp
from genpipe.sources.relations import find
from genpipe.sources.sample import Sample

ROWS = 1500
Columns = Mapping[str, Any]


def fields(columns: Columns) -> list[AnyField]:
    made: list[AnyField] = []
    for name, values in columns.items():
        if np.asarray(values).dtype.kind == "M":
            made.append(Timestamp(name=name, unit="s"))
        elif np.asarray(values).dtype.kind == "f":
            there = values[~np.isnan(values)]
            digits = next((d for d in (2, 9) if (np.round(there, d) == there).all()), None)
            made.append(Number(name=name, decimals=digits, nullable=True))
        else:
            made.append(Integer(name=name))
    return made


def batch(columns: Columns) -> pa.RecordBatch:
    arrays = [pa.array(v, from_pandas=True) for v in columns.values()]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def seen(columns: Columns) -> dict[str, float]:
    found = find(Sample.of(batch(columns), 0, 2), fields(columns))
    return {str(r.constraint): round(r.share, 2) for r in found}


def shuffled(columns: Columns, rng: np.random.Generator) -> Columns:
    return {name: rng.permutation(values) for name, values in columns.items()}


def bill() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    net = np.round(rng.lognormal(4, 1, ROWS), 2)
    tax = np.round(net * 0.19, 2)
    fee = np.where(rng.random(ROWS) < 0.3, np.round(rng.uniform(1, 9, ROWS), 2), 0.0)
    fee[:40] = np.nan
    points = rng.integers(0, 40, (5, ROWS))
    day = np.datetime64("2024-01-01T00:00:00") + rng.integers(0, 365 * 86400, ROWS)
    return {
        "net": net,
        "tax": tax,
        "fee": fee,
        "total": np.round(net + tax + fee, 2),
        **{f"p{i}": p for i, p in enumerate(points)},
        "points": points.sum(0) + (np.arange(ROWS) % 40 == 3),
        "left": points[0] - points[1],
        "gross": np.round(net + tax, 2),
        "again": net,
        "ordered": day,
        "sent": day + rng.integers(3600, 9 * 86400, ROWS),
        "yes": rng.integers(0, 2, ROWS),
        "odd": rng.random(ROWS),
        "fine": np.round(rng.random(ROWS), 9),
    }


def test_sums_of_two_to_five_differences_equal_columns_and_orders_are_found() -> None:
    assert seen(bill()) == {
        "again = net": 1.0,
        "gross = net + tax": 1.0,
        "tax = 0.19 net": 1.0,
        "p0 = p1 + left": 1.0,
        "total = fee + gross": 1.0,
        "points = p0 + p1 + p2 + p3 + p4": 0.97,
        "ordered <= sent": 1.0,
    }


def test_shuffled_columns_show_nothing() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        assert seen(shuffled(bill(), rng)) == {}


MAKERS = (
    lambda rng, n: rng.integers(0, 2, n),
    lambda rng, n: rng.integers(0, 3, n),
    lambda rng, n: rng.integers(0, 1000, n) * 5,
    lambda rng, n: (rng.random(n) < 0.02) * rng.integers(1, 50, n),
    lambda rng, n: np.full(n, 3),
    lambda rng, n: np.round(rng.lognormal(3, 1, n), 2),
    lambda rng, n: np.where(rng.random(n) < 0.9, 0.0, np.round(rng.random(n) * 9, 1)),
    lambda rng, n: np.where(rng.random(n) < 0.5, np.nan, rng.integers(0, 6, n)),
    lambda rng, n: rng.poisson(1.0, n),
    lambda rng, n: rng.random(n),
)


@pytest.mark.parametrize("rows", [20, 60, 100, 400, 1500])
def test_columns_that_know_nothing_of_each_other_show_nothing(rows: int) -> None:
    rng = np.random.default_rng(rows)
    for _ in range(20):
        makers = rng.integers(0, len(MAKERS), rng.integers(2, 16))
        table = {f"c{i}": MAKERS[m](rng, rows) for i, m in enumerate(makers)}
        assert seen(table) == {}, table


def test_a_relation_in_few_rows_is_none() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(1, 99, (2, ROWS))
    rare = np.where(np.arange(ROWS) < 30, b, 0)  # only 30 rows have two parts
    assert seen({"a": a, "b": rare, "c": a + rare}) == {"c = a": 0.98}
    assert seen({"a": a, "b": b, "c": np.where(np.arange(ROWS) % 10 == 0, 5, a + b)}) == {}  # nine in ten
    few = slice(0, 40)
    assert seen({"a": a[few], "b": b[few], "c": (a + b)[few]}) == {}


def test_a_sample_does_not_depend_on_how_a_table_is_cut() -> None:
    rng = np.random.default_rng(3)
    table = {"a": rng.integers(0, 9, 9000), "b": np.round(rng.random(9000), 2)}
    whole = batch(table)
    one = Sample.of(whole, 4, 2)
    pieces = [Sample.of(whole.slice(at, 1100), 4, 2 + at) for at in range(0, 9000, 1100)]
    other = Sample()
    for piece in reversed(pieces):
        other = piece.merge(other)
    assert len(one.keys) == 4096 and np.array_equal(one.keys, other.keys)
    for name in table:
        assert np.array_equal(one.columns[name], other.columns[name])


def written(form: str) -> tuple[list[AnyField], pa.RecordBatch]:
    net, tax = np.random.default_rng(5).integers(1_000, 900_000, (2, 300))
    cents = {"net": net, "tax": tax, "gross": net + tax}
    texts = {name: [form.format(c / 100) for c in column] for name, column in cents.items()}
    day = np.datetime64("2024-01-01") + np.arange(300)
    texts["sent"] = [f"{d.item():%d.%m.%Y}" for d in day]
    texts["paid"] = [f"{d.item():%d.%m.%Y}" for d in day + 1 + np.random.default_rng(6).integers(0, 60, 300)]
    shown = "$#,##0.00" if "$" in form else "#,##0.00"
    made: list[AnyField] = [Number(name=name, decimals=2, format=shown) for name in cents]
    made += [Date(name=name, format="%d.%m.%Y") for name in ("sent", "paid")]
    return made, batch(texts)


@pytest.mark.parametrize("form", ["${:,.2f}", "{:,.2f}"])
def test_written_numbers_and_dates_are_related_like_any_other(form: str) -> None:
    made, table = written(form)
    names = table.schema.names
    halves = [Sample.of(table.slice(at, 150), 0, 2 + at, names) for at in (0, 150)]
    sample = halves[0].merge(halves[1])
    assert {str(r.constraint) for r in find(sample.read(made), made)} == {"gross = net + tax", "sent <= paid"}
    # a batch all of whose numbers are plain is typed before anyone knows that others are written
    plain = pa.RecordBatch.from_arrays(
        [pa.array([1.5, 2.5]), pa.array([1.0, 1.0]), pa.array([2.5, 3.5])], names[:3]
    )
    mixed = sample.merge(Sample.of(plain, 1, 2)).read(made)
    assert {1.5, 2.5} <= set(mixed.columns["net"]) and np.isfinite(mixed.columns["gross"]).all()
    assert not sample.read([]).columns  # of texts that turned out to be words


def test_days_that_look_like_numbers_are_days() -> None:
    days = [20240131, 20240201, 20240229]
    sample = Sample.of(batch({"day": days}), 0, 2).read([Date(name="day", format="%Y%m%d")])
    assert np.sort(np.diff(np.sort(sample.columns["day"]))).tolist() == [86_400e6, 28 * 86_400e6]


def test_sums_of_many_columns_are_found_too() -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(0, 100, (400, 600))
    x[5], x[-1] = x[1] + x[2] + x[3], x[-2] + x[-3]
    wide = {f"x{i}": v for i, v in enumerate(x)}
    assert seen(wide) == {"x399 = x397 + x398": 1.0, "x5 = x1 + x2 + x3": 1.0}
