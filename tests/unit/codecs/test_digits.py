"""Columns of more values than a head should be wide: two digits of a code, exact both ways."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from genpipe.batch import to_batch
from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.columns import WIDEST_HEAD
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.draws import Draws
from genpipe.errors import DataError
from genpipe.fields import Category, Integer
from genpipe.recipe import make_family
from genpipe.recipes import parse_recipe
from genpipe.schema import Schema
from genpipe.spec import TensorSpec


def table(values: int, rows: int, *, nulls: int = 0) -> pa.RecordBatch:
    """`values` different names, each at least once; `n` is whether the name's number is odd."""
    rng = np.random.default_rng(0)
    code = np.concatenate([np.arange(values), rng.zipf(1.2, rows) % values])[:rows]
    text = np.char.add("v", code.astype(str))
    fields = (Category(name="name", nullable=nulls > 0), Integer(name="n"))
    schema = Schema(kind="tabular", fields=fields)
    names = pa.array(text, pa.string(), mask=np.arange(rows) >= rows - nulls)
    return pa.RecordBatch.from_arrays([names, pa.array(code % 2)], schema=schema.arrow())


def codec_of(batch: pa.RecordBatch) -> TabularCodec:
    codec = fit(TabularCodec, Schema.from_arrow(batch.schema), [batch], CodecConfig(rare="keep"))
    assert isinstance(codec, TabularCodec)
    return codec


@pytest.mark.parametrize(
    ("values", "digits"),
    [(1023, (1024,)), (1024, (32, 33)), (1088, (33, 33)), (1089, (33, 34)), (50_000, (224, 224))],
)
def test_digits_say_every_value_and_every_digit_says_a_value(values: int, digits: tuple[int, ...]) -> None:
    batch = table(values, values + 300, nulls=7)
    codec = codec_of(batch)
    spec, (column, first, last) = codec.spec("tokens"), codec.positions[0]
    assert spec.vocabulary == (*digits, 2) and (first, last) == (0, len(digits))
    arrays = codec.encode(batch, "tokens")
    assert (arrays["x"] < spec.vocabulary).all() and (arrays["x"] >= 0).all()
    assert codec.decode(arrays, "tokens", np.random.default_rng(0)).equals(batch)
    for t, shares in enumerate(spec.frequencies):
        counted = np.bincount(arrays["x"][:, t], minlength=len(shares)) / len(batch)
        assert np.abs(counted - shares).max() < 1e-6
    every = np.stack(np.meshgrid(*map(np.arange, digits), indexing="ij"), -1).reshape(-1, len(digits))
    codes = np.bincount(column.join(every), minlength=column.vocabulary)
    assert codes.min() >= 1 and len(codes) == column.vocabulary  # combinations beyond fold, evenly:
    last_row = codes[(len(codes) - 1) // digits[-1] * digits[-1] :] if len(digits) > 1 else codes
    assert last_row.max() - last_row.min() <= 1 and (codes[: -len(last_row)] == 1).all()
    wild = np.array([[-5, 2**31 - 1], [2**31 - 1, -5]], np.int32)[:, : len(digits)]
    legal = column.decode(column.join(wild), np.random.default_rng(0)).drop_null().to_pylist()
    assert set(legal) <= set(batch.column("name").to_pylist())


def test_a_million_values_go_there_and_back() -> None:
    batch = table(1_000_000, 1_000_000)
    codec = codec_of(batch)
    assert codec.spec("tokens").vocabulary == (1000, 1000, 2)
    assert max(codec.spec("tokens").vocabulary) <= WIDEST_HEAD
    read = TabularCodec.from_json(codec.schema, json.loads(json.dumps(codec.to_json())))
    some = batch.slice(990_000)
    back = read.decode(read.encode(some, "tokens"), "tokens", np.random.default_rng(0))
    assert back.equals(some)
    assert read.to_json() == codec.to_json()


def test_more_than_a_million_values_are_refused() -> None:
    names = pa.array(np.char.add("v", np.arange(1_000_001).astype(str)))
    schema = Schema(kind="tabular", fields=(Category(name="name"),))
    with pytest.raises(DataError, match="name: 1000001 distinct values; expected at most 1000000"):
        codec_of(pa.RecordBatch.from_arrays([names], schema=schema.arrow()))


def test_a_model_learns_what_goes_with_which_of_fifty_thousand_values() -> None:
    import torch

    batch = table(50_000, 60_000)
    codec = codec_of(batch)
    spec: TensorSpec = codec.spec("tokens")
    recipe = parse_recipe(None, "tabular")
    family = make_family(recipe, spec)
    torch.manual_seed(0)
    nets = family.build()
    optimizer = torch.optim.Adam(nets["model"].parameters(), lr=2e-2)
    arrays = codec.encode(batch, "tokens")
    losses, order = [], np.random.default_rng(0).permutation(60_000)
    for step in range(60):
        rows = order[step * 1000 : (step + 1) * 1000]
        loss = family.loss(
            "likelihood",
            nets,
            to_batch({k: a[rows] for k, a in arrays.items()}, spec, "cpu"),
            Draws(0, total=1000, device="cpu"),
        )["likelihood"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    condition = torch.zeros((1000, 0), dtype=torch.long)
    x = family.sample({"model": nets["model"].eval()}, condition, Draws(0, total=1000, device="cpu"))
    made = codec.decode(
        {"x": x.numpy(), "condition": np.zeros((1000, 0), np.int32)}, "tokens", np.random.default_rng(0)
    )
    assert set(made.column("name").to_pylist()) <= set(batch.column("name").to_pylist())
