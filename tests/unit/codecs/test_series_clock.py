"""Channels that go round: whatever codes say, an hour is followed by the next."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.series import SeriesCodec
from genpipe.codecs.series_clock import find_clocks, read_clocks
from genpipe.fields import Series
from genpipe.schema import Schema

STEPS = 36


def hours(rows: int = 3000, seed: int = 0) -> dict[str, np.ndarray]:
    """Windows of two years of hours, a month that moves at midnight, and channels that are no clocks."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 2 * 365 * 24 - STEPS, (rows, 1))
    at = np.datetime64("2023-01-01T00", "h") + start + np.arange(STEPS)
    cloud = np.abs(rng.integers(-1, 2, at.shape).cumsum(1)) % 9
    return {
        "hour": (start + np.arange(STEPS)) % 24.0,
        "month": at.astype("datetime64[M]").astype(int) % 12 + 1.0,
        "day": (at.astype("datetime64[D]") - at.astype("datetime64[M]").astype("datetime64[D]")).astype(float)
        + 1,
        "cloud": cloud.astype(float),
        "rain": (rng.random(at.shape) < 0.2).astype(float),
        "warmth": rng.normal(size=at.shape).cumsum(1).round(1),
    }


def fitted(values: dict[str, np.ndarray], **config: Any) -> tuple[SeriesCodec, pa.RecordBatch]:
    fields = tuple(Series(name=n, length=STEPS, decimals=int(n == "warmth")) for n in values)
    schema = Schema(kind="series", fields=fields)
    batch = pa.RecordBatch.from_arrays([pa.array(list(v)) for v in values.values()], schema=schema.arrow())
    codec = fit(SeriesCodec, schema, [batch.slice(0, 700), batch.slice(700)], CodecConfig(**config))
    assert isinstance(codec, SeriesCodec)
    return codec, batch


def matrix(batch: pa.RecordBatch, name: str) -> np.ndarray:
    return np.stack(batch.column(name).to_numpy(zero_copy_only=False))


def decoded(codec: SeriesCodec, x: np.ndarray) -> pa.RecordBatch:
    arrays = {"x": x.astype(np.float32), "condition": np.zeros((len(x), 0), np.int64)}
    return codec.decode(arrays, "sequence", np.random.default_rng(0))


def test_clocks_are_found_and_nothing_else() -> None:
    clocks = {clock.name: clock for clock in find_clocks(hours(), 5)}
    assert set(clocks) == {"hour", "month", "day"}
    assert clocks["hour"].by is None
    assert (clocks["month"].by, clocks["month"].at) == ("hour", 0.0) == (clocks["day"].by, clocks["day"].at)


@pytest.mark.parametrize("rare", ["protect", "keep"])
def test_noise_is_set_right(rare: str) -> None:
    """A tenth of the steps say any other hour, all are moved a little: the course is the true one."""
    codec, batch = fitted(hours(), rare=rare)
    x = codec.encode(batch, "sequence")["x"]
    assert np.array_equal(matrix(decoded(codec, x), "hour"), matrix(batch, "hour"))
    same = matrix(decoded(codec, x), "month") == matrix(batch, "month")
    assert same.all() if rare == "keep" else same.mean() > 0.999  # a turn of the year that four rows show
    rng = np.random.default_rng(1)
    wrong = np.where(rng.random(x.shape) < 0.1, rng.uniform(-1, 1, x.shape), x + rng.normal(0, 0.01, x.shape))
    made = decoded(codec, wrong.clip(-1, 1))
    hour, month = matrix(made, "hour"), matrix(made, "month")
    assert (np.diff(hour, axis=1) % 24 == 1).all()
    assert (hour == matrix(batch, "hour")).mean() > 0.999
    moved = np.diff(month, axis=1) != 0
    assert (hour[:, 1:][moved] == 0).all() and 0.01 < moved.any(1).mean() < 0.09
    assert (month == matrix(batch, "month")).mean() > 0.99


def test_any_codes_are_courses_that_there_are() -> None:
    codec, _ = fitted(hours())
    made = decoded(codec, np.random.default_rng(0).uniform(-1, 1, (200, STEPS, codec.width)))
    assert (np.diff(matrix(made, "hour"), axis=1) % 24 == 1).all()
    day = np.diff(matrix(made, "day"), axis=1)
    assert set(np.unique(day)) <= {0, 1, -30, -29, -28, -27} and len(np.unique(matrix(made, "cloud"))) > 5


def test_what_few_rows_show_is_not_kept() -> None:
    values = hours(400)
    values["month"][:3] = 13.0  # a month of three people
    clocks = {c.name: c for c in find_clocks(values, 5)}
    assert clocks["hour"].moves.shape == (24, 24)
    assert "month" not in clocks or not (clocks["month"].moves[-1, :-1] > 0).any()


def test_clocks_survive_being_written_and_strange_ones_are_refused() -> None:
    codec, _ = fitted(hours())
    told = json.loads(json.dumps(codec.to_json()))
    read = SeriesCodec.from_json(codec.schema, told)
    x = np.random.default_rng(2).uniform(-1, 1, (50, STEPS, codec.width))
    assert read.to_json() == codec.to_json() and decoded(read, x).equals(decoded(codec, x))
    clock, whole = told["clocks"][0], {"hour", "month"}
    for change in (
        {"name": "nobody"}, {"by": "month", "at": 0.0}, {"values": [3.0, 2.0, 1.0]}, {"values": []},
        {"after": [99] * 24}, {"after": [30] * 24}, {"after": [0]}, {"shares": [2.0] * 24}, {"at": 3.0},
        {"before": [0], "after": [1], "shares": [1.0]},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            read_clocks([clock | change], whole)
