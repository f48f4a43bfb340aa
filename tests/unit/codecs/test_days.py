"""A date beside a time, and times days apart: compared by days, and still at hours of the data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.constraints import Inequality
from genpipe.fields import Date, Integer, Timestamp
from genpipe.schema import Schema
from genpipe.sources.relations import find
from genpipe.sources.sample import Sample

ROWS = 3000
ORDERS = (
    Inequality(low="ordered", high="shipped"),
    Inequality(low="shipped", high="arrived"),
    Inequality(low="arrived", high="paid", days=True),
)


def orders(zone: str | None = None) -> tuple[Schema, pa.RecordBatch]:
    """Ordered from nine to five, shipped days later, arrived in the morning, paid in the evening."""
    rng = np.random.default_rng(0)
    day = pd.Series(pd.Timestamp("2023-01-02") + pd.to_timedelta(rng.integers(0, 500, ROWS), "D"))

    def at(days: pd.Series, first: int, last: int) -> pd.Series:
        return days + pd.to_timedelta(rng.integers(first * 60, last * 60, ROWS), "min")

    shipped = day + pd.to_timedelta(rng.integers(0, 4, ROWS), "D")
    arrived = shipped + pd.to_timedelta(rng.integers(0, 3, ROWS), "D")
    paid = arrived + pd.to_timedelta(rng.integers(0, 30, ROWS), "D")
    kind = pa.timestamp("s", zone)
    columns = {
        "ordered": at(day, 9, 17),
        "shipped": shipped.dt.date,
        "arrived": at(arrived, 7, 11),
        "paid": at(paid, 18, 23).where(np.arange(ROWS) % 20 > 0),
        "n": rng.integers(0, 5, ROWS),
    }
    times = {
        n: v.dt.tz_localize(zone) if zone else v
        for n, v in columns.items()
        if n in ("ordered", "arrived", "paid")
    }
    made = {n: pa.array(v, kind) for n, v in times.items()}
    made |= {"shipped": pa.array(columns["shipped"], pa.date32()), "n": pa.array(columns["n"], pa.int64())}
    fields = (
        Timestamp(name="ordered", unit="s", timezone=zone),
        Date(name="shipped"),
        Timestamp(name="arrived", unit="s", timezone=zone),
        Timestamp(name="paid", unit="s", timezone=zone, nullable=True),
        Integer(name="n"),
    )
    schema = Schema(kind="tabular", fields=fields, constraints=ORDERS)
    return schema, pa.RecordBatch.from_arrays([made[f.name] for f in fields], schema=schema.arrow())


@pytest.mark.parametrize("zone", [None, "America/New_York"])
@pytest.mark.parametrize("layout", ["tokens", "vector"])
def test_any_codes_stay_in_order_at_hours_of_the_data(zone: str | None, layout: str) -> None:
    schema, batch = orders(zone)
    codec = fit(TabularCodec, schema, [batch], CodecConfig())
    assert isinstance(codec, TabularCodec) and codec.holds(batch).all()
    codec = TabularCodec.from_json(schema, json.loads(json.dumps(codec.to_json())))
    rng, spec = np.random.default_rng(0), codec.spec(layout)
    if layout == "tokens":
        x = np.stack([rng.choice(len(p), ROWS, p=np.array(p) / sum(p)) for p in spec.frequencies], 1)
    else:
        x = rng.uniform(-1, 1, (ROWS, *spec.shape)).astype(np.float32)
    made = codec.decode({"x": x, "condition": np.zeros((ROWS, 0), np.int64)}, layout, rng)
    assert codec.holds(made).all()
    rows = made.to_pandas()
    local = {n: rows[n].dt.tz_localize(None) for n in ("ordered", "arrived", "paid")}
    shipped = pd.to_datetime(rows["shipped"])
    assert (local["ordered"].dt.normalize() <= shipped).all()
    there = local["paid"].notna()
    assert 0 < there.mean() < 1 and (shipped <= local["arrived"].dt.normalize()).all()
    assert (local["arrived"] <= local["paid"])[there].all()
    if layout == "tokens":
        assert local["arrived"].dt.hour.between(7, 10).mean() > 0.99
        assert local["paid"].dt.hour[there].between(18, 22).mean() > 0.97


def test_real_rows_come_back_on_their_days() -> None:
    schema, batch = orders()
    codec = fit(TabularCodec, schema, [batch], CodecConfig(rare="keep"))
    made = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    for name in ("ordered", "shipped", "arrived"):
        days = [pd.to_datetime(b[name].to_pandas()).dt.normalize() for b in (batch, made)]
        assert (days[0].fillna(days[0].min()) == days[1].fillna(days[0].min())).mean() > 0.99


def test_found_at_ingest() -> None:
    """The closest earlier column is the base; two times that lie days apart are compared by their days."""
    schema, batch = orders("Europe/Paris")
    found = [r.constraint for r in find(Sample.of(batch, 0, 2), schema.fields)]
    assert {str(c): c.days for c in found if isinstance(c, Inequality)} == {
        "ordered <= shipped": False,
        "shipped <= arrived": False,
        "arrived <= paid": True,
    }


def test_the_day_of_a_time_is_found_and_kept() -> None:
    _, batch = orders()
    day = batch["ordered"].cast(pa.date32(), safe=False)
    fields = (Timestamp(name="ordered", unit="s"), Date(name="day"))
    both = pa.RecordBatch.from_arrays([batch["ordered"], day], names=["ordered", "day"])
    (relation,) = find(Sample.of(both, 0, 2), fields)
    assert set(relation.constraint.names) == {"ordered", "day"} and relation.share == 1
    schema = Schema(kind="tabular", fields=fields, constraints=(relation.constraint,))
    codec = fit(TabularCodec, schema, [both.cast(schema.arrow())], CodecConfig())
    made = codec.decode(codec.encode(both, "tokens"), "tokens", np.random.default_rng(0))
    assert made["ordered"].cast(pa.date32(), safe=False).equals(made["day"])
