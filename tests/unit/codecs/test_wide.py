"""A thousand columns, two in five of them constant or empty: fitted and described in seconds."""

from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest

from genpipe.codecs.base import fit
from genpipe.codecs.columns import Fixed
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.fields import AnyField, Category, Date, Integer, Number, Timestamp
from genpipe.schema import Schema

ROWS, COLUMNS = 500, 1_000


def wide() -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    kinds: list[tuple[type, dict, pa.Array]] = [
        (Number, {}, pa.array(rng.normal(size=ROWS))),
        (Integer, {}, pa.array(rng.integers(0, 900, ROWS))),
        (Category, {}, pa.array(rng.choice(list("abc"), ROWS))),
        (Category, {}, pa.array(["always"] * ROWS)),
        (Timestamp, {"unit": "ns", "nullable": True}, pa.nulls(ROWS, pa.timestamp("ns"))),
    ]
    picked = [kinds[i % 5] for i in range(COLUMNS)]
    fields = tuple(kind(name=f"c{i}", **more) for i, (kind, more, _) in enumerate(picked))
    schema = Schema(kind="tabular", fields=fields)
    return pa.RecordBatch.from_arrays([values for *_, values in picked], schema=schema.arrow())


def test_a_thousand_columns_take_seconds() -> None:
    batch, began = wide(), time.process_time()
    codec = fit(TabularCodec, Schema.from_arrow(batch.schema), [batch.slice(0, 200), batch.slice(200)])
    assert isinstance(codec, TabularCodec)
    learnt = 600 - 19  # of the first hundred columns, copies of a choice are made from it
    assert codec.spec("tokens").shape == (learnt,) and len(codec.spec("vector").spans) >= learnt
    read = TabularCodec.from_json(codec.schema, json.loads(json.dumps(codec.to_json())))
    for layout in codec.layouts:
        back = read.decode(read.encode(batch, layout), layout, np.random.default_rng(0))
        for i in (2, 3, 4, 998, 999):
            assert back.column(i).equals(batch.column(i))
    assert time.process_time() - began < 20  # about two on an idle core; quadratic work would take minutes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Category(name="c"), "always"),
        (Timestamp(name="c", unit="ns", timezone="Asia/Kolkata"), -(2**62)),
        (Date(name="c"), -719_162),
        (Number(name="c", decimals=2), 0.07),
        (Number(name="c", nullable=True), None),
        (Category(name="c", nullable=True), None),
        (Date(name="c", nullable=True), None),
    ],
)
@pytest.mark.parametrize("layout", TabularCodec.layouts)
def test_constant_and_empty_columns_come_back_exactly(field: AnyField, value: object, layout: str) -> None:
    schema = Schema(kind="tabular", fields=(field, Integer(name="n")))
    kind = field.arrow()
    storage = {"timestamp": pa.int64(), "date": pa.int32()}.get(field.kind, kind)
    values = pa.array([value] * 10, storage).cast(kind)
    batch = pa.RecordBatch.from_arrays([values, pa.array(range(10))], schema=schema.arrow())
    codec = fit(TabularCodec, schema, [batch])
    assert isinstance(codec, TabularCodec) and isinstance(codec.columns[0], Fixed)
    read = TabularCodec.from_json(schema, json.loads(json.dumps(codec.to_json())))
    back = read.decode(read.encode(batch, layout), layout, np.random.default_rng(0))
    assert back.column("c").equals(values)
