"""Dates and times taken apart: hours and weekdays survive, and what is given stays as it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.fields import AnyField, Category, Date, Integer, Timestamp
from genpipe.schema import Schema

ROWS = 3000


def opened(rows: int = ROWS, *, seed: int = 0) -> pd.Series:
    """Weekdays of two years, from nine to five, at whole minutes."""
    rng = np.random.default_rng(seed)
    days = pd.Series(pd.bdate_range("2022-01-03", "2023-12-29")).sample(rows, replace=True, random_state=seed)
    minutes = 60 * rng.integers(9, 17, rows) + rng.integers(0, 60, rows)
    return days.reset_index(drop=True) + pd.to_timedelta(minutes, unit="min")


def fitted(*columns: tuple[AnyField, object], **config: object) -> tuple[TabularCodec, pa.RecordBatch]:
    schema = Schema(kind="tabular", fields=tuple(f for f, _ in columns))
    arrays = [v if isinstance(v, pa.Array) else pa.array(v, f.arrow()) for f, v in columns]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema.arrow())
    codec = fit(TabularCodec, schema, [batch], CodecConfig(**config))  # type: ignore[arg-type]
    assert isinstance(codec, TabularCodec)
    return codec, batch


def any_codes(codec: TabularCodec, layout: str, seed: int = 0) -> pd.DataFrame:
    """Rows of codes drawn at random, each column for itself, in the shares of training."""
    rng = np.random.default_rng(seed)
    spec = codec.spec(layout)
    if layout == "tokens":
        x = np.stack([rng.choice(len(p), ROWS, p=np.array(p) / sum(p)) for p in spec.frequencies], 1)
    else:
        x = rng.uniform(-1, 1, (ROWS, *spec.shape)).astype(np.float32)
    made = codec.decode({"x": x, "condition": np.zeros((ROWS, 0), np.int64)}, layout, rng)
    return made.to_pandas()


def test_hours_and_weekdays_are_those_of_the_data() -> None:
    real = opened()
    codec, _ = fitted(
        (Timestamp(name="at"), pa.array(real, pa.timestamp("us"))), (Integer(name="n"), [1, 2] * 1500)
    )
    assert [c.field.name for c in codec.learnt] == ["week of at", "weekday of at", "time of day of at", "n"]
    made = any_codes(codec, "tokens")["at"]
    assert (
        made.dt.day_of_week.max() == 4 and made.dt.hour.between(9, 16).all() and (made.dt.second == 0).all()
    )
    for part in ("hour", "day_of_week", "year"):
        shares = [getattr(x.dt, part).value_counts(normalize=True) for x in (real, made)]
        assert shares[0].sub(shares[1], fill_value=0).abs().max() < 0.04
    whole, _ = fitted(
        (Timestamp(name="at"), pa.array(real, pa.timestamp("us"))), (Integer(name="n"), [1, 2] * 1500),
        calendar=False,
    )  # fmt: skip
    assert any_codes(whole, "tokens")["at"].dt.hour.between(9, 16).mean() < 0.6  # what it mends


@pytest.mark.parametrize("layout", ["tokens", "vector"])
@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_any_codes_are_moments_of_the_span_of_training(layout: str, zone: str | None, unit: str) -> None:
    real = opened().dt.tz_localize(zone) if zone else opened()
    field = Timestamp(name="at", unit=unit, timezone=zone, nullable=True)  # type: ignore[arg-type]
    column = pa.array(real.where(np.arange(ROWS) % 10 > 0), pa.timestamp(unit, zone))
    codec, batch = fitted((field, column), (Integer(name="n"), [1, 2] * 1500), rare="keep")
    made = any_codes(codec, layout)["at"]
    assert made.isna().any() and made.min() >= real.min() and made.max() <= real.max()
    if zone and layout == "tokens":  # by the clock on the wall, summer and winter
        assert made.dropna().dt.tz_convert(zone).dt.hour.between(9, 16).all()
    back = codec.decode(codec.encode(batch, layout), layout, np.random.default_rng(0))
    assert back.column("at").is_valid().equals(batch.column("at").is_valid())
    off = (back.to_pandas()["at"] - batch.to_pandas()["at"]).abs().dropna().dt.total_seconds()
    assert off.max() * {"s": 1, "us": 1e6, "ns": 1e9}[unit] <= codec.tolerance(layout)["at"]
    assert (off.quantile(0.9) < 86400 * 8) if layout == "tokens" else True


def test_dates_keep_their_weekdays() -> None:
    codec, batch = fitted(
        (Date(name="on"), pa.array(opened().dt.date)), (Category(name="n"), ["a", "b"] * 1500)
    )
    assert [c.field.name for c in codec.learnt] == ["week of on", "weekday of on", "n"]
    made = pd.to_datetime(any_codes(codec, "tokens")["on"])
    assert made.dt.day_of_week.max() == 4
    back = codec.decode(codec.encode(batch, "tokens"), "tokens", np.random.default_rng(0))
    days = [pd.to_datetime(b.to_pandas()["on"]).dt.day_of_week for b in (back, batch)]
    assert (days[0] == days[1]).all()


def test_what_is_given_of_a_row_stays_exactly() -> None:
    codec, batch = fitted(
        (Timestamp(name="at", nullable=True), pa.array(opened(), pa.timestamp("us"))),
        (Integer(name="n"), [1, 2] * 1500),
    )
    given = batch.select(["at"]).slice(0, 50)
    arrays = {k: v[50:100] for k, v in codec.encode(batch, "tokens").items()}
    made = codec.decode(arrays, "tokens", np.random.default_rng(0), given)
    assert made.column("at").equals(given.column("at"))
    tokens = codec.observed(given, fill=False)
    assert (tokens[:, :3] == codec.encode(batch, "tokens")["x"][:50, :3]).all() and (tokens[:, 3] < 0).all()


def test_a_column_of_such_a_name_leaves_the_date_whole() -> None:
    codec, _ = fitted(
        (Date(name="on"), pa.array(opened().dt.date)), (Integer(name="week of on"), [1, 2] * 1500)
    )
    assert [c.field.name for c in codec.learnt] == ["on", "week of on"]
