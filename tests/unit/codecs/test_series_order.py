"""Channels that are always in order: whatever codes say, what comes back is."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.series import SeriesCodec
from genpipe.codecs.series_order import Tie, find_ties, least_steps, read_ties, reduced, restored
from genpipe.fields import Series
from genpipe.schema import Schema

ROWS, STEPS = 200, 12


def prices(seed: int = 0) -> dict[str, np.ndarray]:
    """Days of a price between 10 and 1,000, and a temperature that lies below all of it."""
    rng = np.random.default_rng(seed)
    start = np.exp(rng.uniform(np.log(10), np.log(1000), (ROWS, 1)))
    close = start * np.exp(rng.normal(0, 0.02, (ROWS, STEPS)).cumsum(1))
    opened = close * np.exp(rng.normal(0, 0.01, close.shape))
    high = np.maximum(close, opened) * np.exp(rng.exponential(0.005, close.shape))
    low = np.minimum(close, opened) * np.exp(-rng.exponential(0.005, close.shape))
    made = {"open": opened, "high": high, "low": low, "close": close, "adjusted": close}
    return {n: v.round(2) for n, v in made.items()} | {"degrees": rng.normal(-20, 2, close.shape).round(1)}


def fitted(values: dict[str, np.ndarray], **config: object) -> tuple[SeriesCodec, pa.RecordBatch]:
    places = {name: 1 if name == "degrees" else 2 for name in values}
    fields = tuple(Series(name=n, length=STEPS, decimals=places[n]) for n in values)
    schema = Schema(kind="series", fields=fields)
    batch = pa.RecordBatch.from_arrays(
        [pa.array(list(v), f.arrow()) for f, v in zip(fields, values.values(), strict=True)],
        schema=schema.arrow(),
    )
    parts = [batch.slice(0, 50), batch.slice(50)]
    codec = fit(SeriesCodec, schema, parts, CodecConfig(**config))  # type: ignore[arg-type]
    assert isinstance(codec, SeriesCodec)
    return codec, batch


def matrix(batch: pa.RecordBatch, name: str) -> np.ndarray:
    return np.stack(batch.column(name).to_numpy(zero_copy_only=False))


@pytest.mark.parametrize("rare", ["protect", "keep"])
@pytest.mark.parametrize("order", ["learn", "clamp"])
def test_whatever_is_decoded_is_in_order(rare: str, order: str) -> None:
    codec, _ = fitted(prices(), rare=rare, order=order)
    assert len(codec.ties) == 3 and {tie.name for tie in codec.ties} >= {"high", "low"}
    assert not {"degrees"} & {n for tie in codec.ties for n in (tie.name, *tie.others)}
    read = SeriesCodec.from_json(codec.schema, json.loads(json.dumps(codec.to_json())))
    assert read.to_json() == codec.to_json()
    x = np.random.default_rng(1).uniform(-1, 1, (64, STEPS, codec.width)).astype(np.float32)
    made = read.decode(
        {"x": x, "condition": np.zeros((64, 0), np.int64)}, "sequence", np.random.default_rng(0)
    )
    low, high = matrix(made, "low"), matrix(made, "high")
    for name in ("open", "close", "adjusted"):
        values = matrix(made, name)
        assert (low <= values + 1e-9).all() and (values <= high + 1e-9).all()
        assert np.allclose(values, values.round(2))
    assert np.array_equal(matrix(made, "close"), matrix(made, "adjusted"))


def test_real_rows_come_back() -> None:
    codec, batch = fitted(prices(), rare="keep")
    made = codec.decode(codec.encode(batch, "sequence"), "sequence", np.random.default_rng(0))
    for name, most in codec.tolerance("sequence").items():
        assert np.abs(matrix(made, name) - matrix(batch, name)).max() <= most + 1e-9


def test_there_and_back_is_exact() -> None:
    values = prices()
    ties = find_ties(values, least_steps(values), values)
    back = restored(ties, reduced(ties, values))
    assert len(ties) == 3 and all(np.allclose(back[name], values[name]) for name in values)
    assert all(reduced(ties, values)[tie.name].min() >= 0 for tie in ties)


def test_one_step_out_of_order_or_a_gap_ties_nothing() -> None:
    for spoiled in (1e9, np.nan):
        values = prices()
        values["low"][3, 4] = spoiled
        ties = find_ties(values, least_steps(values), values)
        assert "low" not in {n for tie in ties for n in (tie.name, *tie.others)}


def test_ties_of_strangers_are_checked() -> None:
    whole = {"a", "b", "c"}
    good = [
        {"name": "a", "over": True, "others": ["b"], "clamp": False},
        {"name": "b", "over": False, "others": ["c"], "clamp": True},
    ]
    assert read_ties(good, whole) == (Tie("a", True, ("b",)), Tie("b", False, ("c",), True))
    for wrong in (
        [{"name": "a", "over": True, "others": ["a"], "clamp": False}],
        [{"name": "a", "over": True, "others": [], "clamp": False}],
        [{"name": "a", "over": True, "others": ["d"], "clamp": False}],
        [*good, {"name": "c", "over": True, "others": ["a"], "clamp": False}],
        [*good, {"name": "a", "over": True, "others": ["c"], "clamp": False}],
        [{"name": "a", "over": 1, "others": ["b"], "clamp": False}],
    ):
        with pytest.raises(ValueError):
            read_ties(wrong, whole)
