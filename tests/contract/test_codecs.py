"""What every codec promises, over every kind and layout: shapes, ways back, merging, legal output, JSON."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_files import png

from genpipe.codecs import CODECS
from genpipe.codecs.base import VERSION, Codec, CodecConfig, fit
from genpipe.errors import UsageError
from genpipe.fields import (
    BLOB,
    Audio,
    Boolean,
    Category,
    Date,
    Identifier,
    Image,
    Integer,
    Number,
    Series,
    Text,
    Timestamp,
)
from genpipe.kinds import KINDS
from genpipe.media.wav import write_clip
from genpipe.networks.base import form
from genpipe.schema import Schema
from genpipe.spec import LAYOUTS

ROWS = 400
CONFIG = CodecConfig(bins=20, context=24, frames=1024, rare="keep")
PAIRS = [(kind, layout) for kind, codec in CODECS.items() for layout in codec.layouts]


def tabular() -> pa.RecordBatch:
    rng = np.random.default_rng(0)

    def absent(share: float) -> np.ndarray:
        return rng.random(ROWS) < share

    schema = Schema(
        kind="tabular",
        target="income",
        fields=(
            Identifier(name="id"),
            Identifier(name="number", storage="integer"),
            Integer(name="age", nullable=True, minimum=17, maximum=90),
            Integer(name="hundreds", reason="multiples of 100"),
            Number(name="price", decimals=2, minimum=0.0),
            Number(name="real", nullable=True),
            Number(name="spiked", decimals=0),
            Boolean(name="member", nullable=True),
            Category(name="colour", nullable=True),
            Category(name="size", values=("S", "M", "L", "XL")),
            Timestamp(name="seen", unit="ns", timezone="Europe/Paris", nullable=True),
            Timestamp(name="signed", unit="s"),
            Date(name="born", nullable=True),
            Category(name="country"),
            Number(name="empty", nullable=True),
            Boolean(name="income"),
        ),
    )
    colours = np.array(["red", "green", "blue", "blé \U0001f33e", ""], dtype=object)
    early = int(dt.datetime(1066, 10, 14).replace(tzinfo=dt.UTC).timestamp())
    columns = [
        pa.array([f"id{i}" for i in range(ROWS)]),
        pa.array(range(ROWS), pa.int64()),
        pa.array(rng.integers(17, 91, ROWS), mask=absent(0.1)),
        pa.array(rng.integers(-500, 500, ROWS) * 100),
        pa.array(np.round(rng.lognormal(3, 1.5, ROWS), 2)),
        pa.array(rng.standard_t(2, ROWS), mask=absent(0.1)),
        pa.array(np.where(absent(0.8), 0.0, np.rint(rng.lognormal(8, 1, ROWS)))),
        pa.array(absent(0.5), mask=absent(0.2)),
        pa.array(colours[rng.choice(5, ROWS, p=[0.5, 0.3, 0.15, 0.04, 0.01])], mask=absent(0.05)),
        pa.array(np.array(["S", "M", "L"])[rng.integers(0, 3, ROWS)]),
        pa.array(rng.integers(0, 2 * 10**18, ROWS), mask=absent(0.1)).cast(
            pa.timestamp("ns", "Europe/Paris")
        ),
        pa.array(early + 86400 * rng.integers(0, 500_000, ROWS)).cast(pa.timestamp("s")),
        pa.array(rng.integers(-300_000, 20_000, ROWS).astype(np.int32), mask=absent(0.1)).cast(pa.date32()),
        pa.array(["Chile"] * ROWS),
        pa.nulls(ROWS, pa.float64()),
        pa.array(absent(0.3)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow())


def image() -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    fields = (Image(name="image", height=9, width=12, channels=3), Category(name="label"))
    schema = Schema(kind="image", target="label", fields=fields)
    pixels = rng.integers(0, 256, (40, 9, 12, 3), dtype=np.uint8)
    blobs = [{"bytes": png(p), "path": f"{i}.png"} for i, p in enumerate(pixels)]
    labels = pa.array([["cat", "dog", "owl"][i % 3] for i in range(40)])
    return pa.RecordBatch.from_arrays([pa.array(blobs, BLOB), labels], schema=schema.arrow())


def series() -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    schema = Schema(
        kind="series",
        target="region",
        fields=(
            Identifier(name="shop"),
            Series(name="sales", length=16, decimals=0, nullable=True),
            Series(name="price", length=16, decimals=2),
            Series(name="level", length=16),
            Series(name="flag", length=16, decimals=0),
            Category(name="region", nullable=True),
        ),
    )
    walk = rng.normal(size=(60, 16)).cumsum(1) * 10
    sales = [
        None if i == 3 else [None if rng.random() < 0.1 else float(round(v)) for v in walk[i]]
        for i in range(60)
    ]
    columns = [
        pa.array([f"shop{i}" for i in range(60)]),
        pa.array(sales, pa.list_(pa.float64())),
        pa.array(np.round(np.abs(walk), 2).tolist()),
        pa.array(walk.tolist()),
        pa.array([[7.0] * 16] * 60),
        pa.array([["north", "south", None][i % 3] for i in range(60)]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema.arrow())


def text() -> pa.RecordBatch:
    schema = Schema(kind="text", fields=(Text(name="text"),))
    words = ["To be,", "or not to be:", "日本 \U0001f600", "", "that is\nthe question", "\x00�"]
    return pa.RecordBatch.from_arrays([pa.array([words[i % 6] for i in range(60)])], schema=schema.arrow())


def audio() -> pa.RecordBatch:
    field = Audio(name="clip", rate=8000, frames=1000)
    schema = Schema(kind="audio", target="note", fields=(field, Category(name="note")))
    time = np.arange(1000) / 8000
    tones = [np.sin(2 * np.pi * (220 + 110 * (i % 3)) * time) * 0.5 * np.exp(-time * 10) for i in range(12)]
    blobs = pa.array([{"bytes": write_clip(t, field), "path": None} for t in tones], BLOB)
    return pa.RecordBatch.from_arrays(
        [blobs, pa.array(["abc"[i % 3] for i in range(12)])], schema=schema.arrow()
    )


MAKE: dict[str, Callable[[], pa.RecordBatch]] = {f.__name__: f for f in (tabular, image, series, text, audio)}


@cache
def example(kind: str) -> tuple[Schema, pa.RecordBatch, Codec]:
    batch = MAKE[kind]()
    schema = Schema.from_arrow(batch.schema)
    return schema, batch, fit(CODECS[kind], schema, [batch], CONFIG)


def canonical(codec: Codec) -> str:
    return json.dumps(codec.to_json(), allow_nan=False)


def check_legal(schema: Schema, batch: pa.RecordBatch) -> None:
    """Types, nulls, limits and lists of the ingest schema."""
    assert batch.schema.equals(schema.arrow(), check_metadata=True)
    batch.validate(full=True)
    for field in schema.fields:
        column = batch.column(field.name)
        assert field.nullable or column.null_count == 0, field.name
        values = [] if field.kind == "timestamp" else column.drop_null().to_pylist()
        for bound, holds in (("minimum", lambda v, b: v >= b), ("maximum", lambda v, b: v <= b)):
            limit = getattr(field, bound, None)
            assert limit is None or all(holds(v, limit) for v in values), (field.name, bound)
        if field.kind == "number":
            assert all(
                np.isfinite(v) and (field.decimals is None or v == round(v, field.decimals)) for v in values
            )
        if field.kind == "series":
            assert all(len(v) == field.length for v in values)
        if field.kind == "category" and field.values:
            assert set(values) <= set(field.values)
        if field.kind == "identifier":
            assert len(set(values)) == len(batch)


def numbers(column: pa.Array) -> np.ndarray:
    """Storage numbers of a column without its missing entries, exact for whole ones."""
    if pa.types.is_list(column.type):
        column = column.flatten()
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return column.drop_null().to_numpy(zero_copy_only=False)


def test_every_kind_has_a_codec_and_known_layouts() -> None:
    assert tuple(CODECS) == tuple(KINDS)
    assert {layout for _, layout in PAIRS} <= set(LAYOUTS)


@pytest.mark.parametrize(("kind", "layout"), PAIRS)
def test_arrays_are_what_the_spec_says(kind: str, layout: str) -> None:
    _, batch, codec = example(kind)
    spec = codec.spec(layout)
    assert form(spec) == CODECS[kind].form(layout), "what a recipe is checked by, before there are data"
    for part in (batch, batch.slice(3, 5), batch.slice(0, 0)):
        arrays = codec.encode(part, layout)
        assert arrays["x"].shape == (len(part), *spec.shape)
        assert arrays["x"].dtype == spec.dtype
        assert arrays["condition"].shape == (len(part), len(spec.conditions))
        assert arrays["condition"].dtype == np.int32
        assert "mask" not in arrays or arrays["mask"].shape == (len(part), spec.shape[0])
        if len(part):
            assert (arrays["condition"] < np.array(spec.conditions)).all()
        if spec.layout == "tokens":
            assert (arrays["x"] >= 0).all() and (arrays["x"] < np.array(spec.vocabulary)).all()
        elif spec.dtype == "float32":
            assert np.abs(arrays["x"]).max(initial=0.0) <= 1.0
        for span in spec.spans:
            if span.kind == "categorical":
                assert (arrays["x"][:, span.start : span.start + span.size].sum(1) == 1).all()


@pytest.mark.parametrize(("kind", "layout"), PAIRS)
def test_a_round_trip_stays_within_the_tolerance(kind: str, layout: str) -> None:
    schema, batch, codec = example(kind)
    arrays = codec.encode(batch, layout)
    back = codec.decode(arrays, layout, np.random.default_rng(1))
    check_legal(schema, back)
    tolerance = codec.tolerance(layout)
    assert set(tolerance) >= set(schema.names) - {f.name for f in schema.of_kind("identifier")}
    assert (codec.encode(back, layout)["condition"] == arrays["condition"]).all()
    for field in schema.fields:
        was, now = batch.column(field.name), back.column(field.name)
        if field.kind == "identifier":
            continue
        if field.kind == "image":
            assert (codec.encode(back, layout)["x"] == arrays["x"]).all()
        elif field.kind == "audio":
            off = codec.encode(back, layout)["x"] - arrays["x"]
            assert np.sqrt((off**2).reshape(len(off), -1).mean(1)).max() <= tolerance[field.name]
        elif field.kind in ("category", "boolean", "text"):
            assert tolerance[field.name] == 0.0 and was.equals(now), field.name
        elif field.kind == "series":
            assert [[v is None for v in row or [None] * 16] for row in was.to_pylist()] == [
                [v is None for v in row] for row in now.to_pylist()
            ]
            assert np.abs(numbers(was) - numbers(now)).max() <= tolerance[field.name], field.name
        else:
            assert was.is_null().equals(now.is_null()), field.name
            if was.null_count < len(was):
                off = np.abs(numbers(was) - numbers(now)).max()
                assert off <= tolerance[field.name], (field.name, off, tolerance[field.name])


@pytest.mark.parametrize("kind", KINDS)
def test_any_partition_of_the_rows_gives_the_same_codec(kind: str) -> None:
    schema, batch, codec = example(kind)
    rows = len(batch)
    cut = rows // 3
    pieces = [batch.slice(0, 1), batch.slice(1, cut), batch.slice(cut + 1, cut), batch.slice(2 * cut + 1)]
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)):
        assert canonical(fit(CODECS[kind], schema, [pieces[i] for i in order], CONFIG)) == canonical(codec)
    seen = [CODECS[kind].observe(p, schema, CONFIG) for p in pieces]
    right = seen[0].merge(seen[1].merge(seen[2].merge(seen[3])))
    left = seen[2].merge(seen[0]).merge(seen[3].merge(seen[1]))
    assert canonical(CODECS[kind].build(schema, right, CONFIG)) == canonical(codec)
    assert canonical(CODECS[kind].build(schema, left, CONFIG)) == canonical(codec)
    shuffled = pa.Table.from_batches([batch]).take(np.random.default_rng(2).permutation(rows)).to_batches()
    assert canonical(fit(CODECS[kind], schema, shuffled, CONFIG)) == canonical(codec)


@pytest.mark.parametrize(("kind", "layout"), PAIRS)
def test_json_keeps_everything(kind: str, layout: str) -> None:
    schema, batch, codec = example(kind)
    # with sorted keys, as bundles are written: nothing may hang on the order of a JSON object
    read = CODECS[kind].from_json(schema, json.loads(json.dumps(codec.to_json(), sort_keys=True)))
    assert canonical(read) == canonical(codec)
    assert read.spec(layout) == codec.spec(layout)
    assert read.tolerance(layout) == codec.tolerance(layout)
    one, two = codec.encode(batch, layout), read.encode(batch, layout)
    assert all(np.array_equal(one[k], two[k]) for k in one)
    assert read.decode(one, layout, np.random.default_rng(3)).equals(
        codec.decode(two, layout, np.random.default_rng(3))
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [{"version": 1}, {"version": VERSION + 1}, {"kind": "video"}])
def test_a_codec_of_another_version_or_kind_is_refused(kind: str, change: dict) -> None:
    schema, _, codec = example(kind)
    with pytest.raises(UsageError, match=r"codec.json: (version \d+; expected version 2 or 3|kind 'video')"):
        CODECS[kind].from_json(schema, codec.to_json() | change)


@pytest.mark.parametrize(("kind", "layout"), PAIRS)
def test_decoding_is_a_function_of_the_arrays_and_the_generator(kind: str, layout: str) -> None:
    _, batch, codec = example(kind)
    arrays = codec.encode(batch, layout)
    again = [codec.decode(arrays, layout, np.random.default_rng(s)) for s in (5, 5)]
    assert again[0].equals(again[1])


@pytest.mark.parametrize(("kind", "layout"), PAIRS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    spread=st.sampled_from([0.0, 0.3, 1.0, 50.0, 1e9]),
    rows=st.sampled_from([0, 1, 9]),
)
def test_any_arrays_decode_to_legal_records(
    kind: str, layout: str, seed: int, spread: float, rows: int
) -> None:
    schema, _, codec = example(kind)
    rng = np.random.default_rng(seed)
    spec = codec.spec(layout)
    shape = (rows, *spec.shape)
    if spec.dtype == "uint8":
        x = rng.integers(0, 256, shape, dtype=np.uint8)
    elif spec.layout == "tokens":
        x = np.clip(np.rint(rng.normal(size=shape) * spread * 10), -(2**31), 2**31 - 1).astype(np.int32)
    else:
        x = (rng.normal(size=shape) * spread).astype(np.float32)
        x[rng.random(shape) < 0.02] = np.nan
    condition = codec.draw_conditions(rows, rng)
    back = codec.decode({"x": x, "condition": condition}, layout, rng)
    assert len(back) == rows
    check_legal(schema, back)
    assert (codec.conditions.codes(back) == condition).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_layout_is_a_usage_error(kind: str) -> None:
    _, batch, codec = example(kind)
    with pytest.raises(UsageError, match=r"layout 'cube' for .* data; expected"):
        codec.encode(batch, "cube")
