"""Rates and logarithms: found where a table reckons them, and held by whatever codes come."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.fields import AnyField, Integer, Number
from genpipe.schema import Schema
from genpipe.sources.relations import find
from genpipe.sources.sample import Sample
from genpipe.written.significant import digits_of, significant

ROWS = 2_000
RATE = {"type": "ratio", "rate": "rate", "part": "cases", "whole": "people", "factor": 1000.0, "digits": 5}
LOG = {"type": "logarithm", "column": "log", "of": "people", "digits": 9}
FIELDS: tuple[AnyField, ...] = (
    Integer(name="cases", nullable=True),
    Integer(name="people"),
    Number(name="rate", nullable=True, decimals=7, minimum=0.0, maximum=2.0),
    Number(name="log", decimals=6, nullable=True),
)


def counties(seed: int = 0, *, zeros: int = 30) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    people = rng.lognormal(10, 1, ROWS).round()
    cases = rng.poisson(people / 800).astype(float)
    cases[rng.random(ROWS) < 0.05] = np.nan
    people[:zeros], cases[:zeros] = 0, 0
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.minimum(significant(1000 * cases / people, 5), 2.0)
        log = np.where(people > 0, np.round(np.log(people), 6), np.nan)
    return {"cases": cases, "people": people, "rate": rate, "log": log}


def batch(columns: dict[str, np.ndarray], schema: Schema) -> pa.RecordBatch:
    arrays = [pa.array(columns[f.name], from_pandas=True).cast(f.arrow(), safe=False) for f in schema.fields]
    return pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())


def of(*constraints: dict[str, Any]) -> Schema:
    return Schema(kind="tabular", fields=FIELDS, constraints=constraints)


def fitted(**config: Any) -> tuple[TabularCodec, pa.RecordBatch]:
    schema = of(RATE, LOG)
    rows = batch(counties(), schema)
    codec = fit(TabularCodec, schema, [rows], CodecConfig(**config))
    assert isinstance(codec, TabularCodec)
    return codec, rows


@pytest.mark.parametrize("layout", ["tokens", "vector"])
def test_any_codes_decode_to_rates_and_logarithms_that_are_right(layout: str) -> None:
    codec, _ = fitted()
    codec = TabularCodec.from_json(codec.schema, json.loads(json.dumps(codec.to_json())))
    rng = np.random.default_rng(1)
    spec = codec.spec(layout)
    if layout == "tokens":
        x = np.stack([rng.integers(0, size, 500) for size in spec.vocabulary], 1)
    else:
        x = rng.uniform(-1, 1, (500, *spec.shape)).astype(np.float32)
    made = codec.decode({"x": x, "condition": np.zeros((500, 0), int)}, layout, rng)
    assert codec.holds(made).all()
    cases, people, rate, log = (made.column(i).to_numpy(zero_copy_only=False).astype(float) for i in range(4))
    told = (people > 0) & ~np.isnan(cases) & ~np.isnan(rate)
    wanted = significant(1000 * cases[told] / people[told], 5)
    assert told.sum() > 100
    np.testing.assert_allclose(rate[told], np.minimum(wanted, 2.0), rtol=1e-9, atol=1e-7)
    assert digits_of(rate[told & (rate > 0)], 0.98) <= 5
    logged = (people > 0) & ~np.isnan(log)
    np.testing.assert_allclose(log[logged], np.log(people[logged]), atol=2e-6)


def test_real_rows_come_back_and_what_is_reckoned_costs_no_token() -> None:
    codec, rows = fitted(rare="keep")
    assert codec.holds(rows).all()
    learnt = {c.field.name for c in codec.learnt}
    assert {"cases", "people"} <= learnt and not {"rate", "log"} & learnt
    off = rows.set_column(2, "rate", pa.array(np.full(ROWS, 1.0)))
    assert codec.holds(off)[100:].mean() < 0.1


def test_formulas_are_found_and_none_where_columns_are_shuffled() -> None:
    columns = counties(zeros=0)
    rng = np.random.default_rng(2)
    columns |= {"other": rng.integers(0, 900, ROWS).astype(float), "noise": rng.normal(size=ROWS).round(7)}
    fields = [*FIELDS, Integer(name="other"), Number(name="noise", decimals=7)]
    arrays = {n: pa.array(v, from_pandas=True) for n, v in columns.items()}

    def seen(table: dict[str, Any]) -> set[str]:
        names = list(table)
        found = find(Sample.of(pa.RecordBatch.from_arrays(list(table.values()), names=names), 0, 2), fields)
        return {str(r.constraint) for r in found if r.constraint.type in ("ratio", "logarithm")}

    assert seen(arrays) == {"rate = 1000 cases / people", "log = 1 log people"}
    mixed = {n: v.take(pa.array(rng.permutation(ROWS))) for n, v in arrays.items()}
    assert seen(mixed) == set()


def test_single_precision_is_no_reason_to_miss_a_formula() -> None:
    columns = counties(zeros=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = (1000 * columns["cases"].astype("f4") / columns["people"].astype("f4")).astype("f4")
    columns["rate"] = significant(exact.astype(float), 7)
    arrays = [pa.array(v, from_pandas=True) for v in columns.values()]
    found = find(Sample.of(pa.RecordBatch.from_arrays(arrays, names=list(columns)), 0, 2), FIELDS)
    assert "rate = 1000 cases / people" in {str(r.constraint) for r in found}


PRODUCT = {"type": "product", "total": "amount", "parts": ["price", "pieces"]}
ORDERS: tuple[AnyField, ...] = (
    Number(name="price", decimals=2),
    Integer(name="pieces", nullable=True),
    Number(name="amount", decimals=2, nullable=True),
    Integer(name="percent"),
    Number(name="tax", decimals=2, nullable=True),
)


def orders(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    price, percent = rng.lognormal(3, 1, ROWS).round(2), rng.choice([0.0, 7.0, 19.0, 25.0], ROWS)
    pieces = rng.integers(1, 9, ROWS).astype(float)
    pieces[rng.random(ROWS) < 0.05] = np.nan
    amount = np.round(price * pieces, 2)
    tax = np.round(0.01 * percent * amount + 1e-9, 2)
    return {"price": price, "pieces": pieces, "amount": amount, "percent": percent, "tax": tax}


def test_products_are_found_and_none_where_columns_are_shuffled() -> None:
    rng, columns = np.random.default_rng(1), orders()

    def seen(table: dict[str, np.ndarray]) -> set[str]:
        arrays = [pa.array(v, from_pandas=True) for v in table.values()]
        sample = Sample.of(pa.RecordBatch.from_arrays(arrays, names=list(table)), 0, 2)
        return {str(r.constraint) for r in find(sample, ORDERS) if r.constraint.type == "product"}

    assert seen(columns) == {"amount = price x pieces", "tax = 0.01 amount x percent"}
    assert seen({n: rng.permutation(v) for n, v in columns.items()}) == set()
    same = columns | {"pieces": np.ones(ROWS)}  # by which nothing is multiplied
    assert "amount = price x pieces" not in seen(same | {"amount": columns["price"]})


def test_any_codes_decode_to_products_that_are_right() -> None:
    schema = Schema(kind="tabular", fields=ORDERS[:3], constraints=[PRODUCT])
    rows = batch(orders(), schema)
    codec = fit(TabularCodec, schema, [rows], CodecConfig())
    assert isinstance(codec, TabularCodec) and codec.holds(rows).all()
    assert "amount" not in {c.field.name for c in codec.learnt}
    codec = TabularCodec.from_json(schema, json.loads(json.dumps(codec.to_json())))
    rng = np.random.default_rng(2)
    x = np.stack([rng.integers(0, size, 500) for size in codec.spec("tokens").vocabulary], 1)
    made = codec.decode({"x": x, "condition": np.zeros((500, 0), int)}, "tokens", rng)
    price, pieces, amount = (made.column(i).to_numpy(zero_copy_only=False).astype(float) for i in range(3))
    there = ~np.isnan(pieces) & ~np.isnan(amount)
    assert there.sum() > 100
    np.testing.assert_allclose(amount[there], np.round(price[there] * pieces[there], 2), atol=1e-9)
    wrong = rows.set_column(2, "amount", pa.array(np.round(orders()["amount"] + 0.5, 2), from_pandas=True))
    assert codec.holds(wrong).mean() < 0.1


def test_a_formula_shares_no_column_with_what_knows_values_of_training_alone() -> None:
    with pytest.raises(ValidationError, match="cannot share columns"):
        of(RATE, {"type": "within", "column": "people", "of": ["cases"]})
    with pytest.raises(ValidationError, match="made by"):
        of(LOG, {**LOG, "of": "cases"})


def units(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    celsius = np.round(rng.normal(12, 9, ROWS), 1)
    net = np.round(rng.lognormal(4, 1, ROWS), 2)
    net[rng.random(ROWS) < 0.05] = np.nan
    height = rng.integers(120, 200, ROWS).astype(float)
    return {
        "celsius": celsius,
        "fahrenheit": np.round(1.8 * celsius + 32, 1),
        "net": net,
        "tax": np.round(0.19 * net, 2),
        "height": height,
        "inches": np.round(height / 2.54, 1),
        "near": np.round(2 * celsius + rng.normal(0, 0.3, ROWS), 1),
    }


UNITS: tuple[AnyField, ...] = (
    *(Number(name=name, decimals=1) for name in ("celsius", "fahrenheit")),
    *(Number(name=name, decimals=2, nullable=True) for name in ("net", "tax")),
    Integer(name="height"),
    *(Number(name=name, decimals=1) for name in ("inches", "near")),
)
LINES = {"fahrenheit = 1.8 celsius + 32", "tax = 0.19 net", "inches = 0.3937 height"}


def lines(columns: dict[str, np.ndarray]) -> dict[str, Any]:
    schema = Schema(kind="tabular", fields=UNITS)
    return {str(r.constraint): r for r in find(Sample.of(batch(columns, schema), 0, 2), UNITS)}


def test_numbers_in_another_unit_are_found_as_they_were_meant() -> None:
    assert lines(units()).keys() == LINES
    assert not lines(
        {name: np.random.default_rng(i).permutation(v) for i, (name, v) in enumerate(units().items())}
    )
    odd = units()
    odd["fahrenheit"] = np.where(np.arange(ROWS) % 50 == 7, 0.0, odd["fahrenheit"])
    assert lines(odd)["fahrenheit = 1.8 celsius + 32"].share == pytest.approx(0.98)


@pytest.mark.parametrize("layout", ["tokens", "vector"])
def test_numbers_in_another_unit_hold_whatever_codes_come(layout: str) -> None:
    found = tuple(r.constraint for r in lines(units()).values())
    schema = Schema(kind="tabular", fields=UNITS, constraints=found)
    codec = fit(TabularCodec, schema, [batch(units(), schema)])
    codec = TabularCodec.from_json(codec.schema, json.loads(json.dumps(codec.to_json())))
    rng = np.random.default_rng(1)
    spec = codec.spec(layout)
    x = rng.uniform(-1, 1, (500, *spec.shape)).astype(np.float32)
    if layout == "tokens":
        x = np.stack([rng.integers(0, size, 500) for size in spec.vocabulary], 1)
    made = codec.decode({"x": x, "condition": np.zeros((500, 0), np.int64)}, layout, rng).to_pandas()
    assert (made.fahrenheit - 1.8 * made.celsius - 32).abs().max() <= 0.0501
    assert (made.tax - 0.19 * made.net).abs().max() <= 0.00501
    assert (made.inches - 0.3937 * made.height).abs().max() <= 0.0501
    back = codec.decode(codec.encode(batch(units(), schema), "tokens"), "tokens", rng).to_pandas()
    assert made.fahrenheit.between(back.fahrenheit.min(), back.fahrenheit.max()).mean() > 0.9
