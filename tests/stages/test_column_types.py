"""Times of every unit, zone and age, and Parquet's odder types, from files through a codec and back."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from genpipe.codecs.base import CodecConfig, fit
from genpipe.codecs.tabular.codec import TabularCodec
from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.evaluation.assess import evaluate_tables
from genpipe.evaluation.page.page import render
from genpipe.fields import AnyField, Date, Timestamp
from genpipe.schema import Schema
from genpipe.sources.columns import Place
from genpipe.sources.tabular.convert import convert_column
from genpipe.training.data import open_source
from genpipe.verbs import generate, ingest, train

ROWS = 120
YEAR_1, YEAR_9999 = -62_135_596_800, 253_402_300_799  # first and last second, since 1970
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def moments(unit: str, zone: str | None = None, *, nulls: bool = False) -> pa.Array:
    """Random moments of the years 1 to 9999 with both ends, or as many as nanoseconds reach."""
    rng = np.random.default_rng(0)
    # Arrow writes the very first second of nanoseconds as text, but does not read it
    low, high = (-(2**63) + 10**9, 2**63 - 1) if unit == "ns" else (YEAR_1, YEAR_9999)
    whole = rng.integers(low, high, ROWS, endpoint=True)
    whole[:2] = low, high
    if unit != "ns":
        whole = whole * PER_SECOND[unit] + rng.integers(0, PER_SECOND[unit], ROWS)
    mask = (np.arange(ROWS) % 4 == 3) if nulls else None
    return pa.array(whole, pa.int64(), mask=mask).cast(pa.timestamp(unit, zone))


def write(path: Path, values: pa.Array) -> None:
    table = pa.table({"k": pa.array(np.arange(ROWS) % 5), "x": values})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".csv":
        pacsv.write_csv(table, path)
    else:
        texts = values.cast(pa.string()).to_pylist()
        path.write_text("".join(json.dumps({"k": i % 5, "x": t}) + "\n" for i, t in enumerate(texts)))


def there_and_back(dataset: Dataset, kind: pa.DataType) -> pa.Table:
    """The training rows; after checking that a codec makes rows of the same type and missing entries."""
    table = dataset.table("train").combine_chunks()
    assert table.schema.field("x").type == kind
    assert all(b.schema.field("x").type == kind for b in dataset.batches("train"))  # Parquet has no seconds
    codec, (batch,) = fit(TabularCodec, dataset.schema, table.to_batches()), table.to_batches()
    for layout in codec.layouts:
        back = codec.decode(codec.encode(batch, layout), layout, np.random.default_rng(0)).column("x")
        assert back.type == kind and back.is_null().equals(batch.column("x").is_null())
        back.cast(pa.string())  # every value is a legal moment
    return table


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kolkata"])
@pytest.mark.parametrize("unit", PER_SECOND)
def test_moments_keep_their_unit_and_reach(
    home: Path, tmp_path: Path, form: str, zone: str | None, unit: str
) -> None:
    values = moments(unit, zone, nulls=True)
    if zone and form != "parquet":  # text has offsets of whole minutes, which the zone had not before 1906
        values = values.cast(pa.timestamp(unit)).cast(pa.timestamp(unit, "UTC"))
        zone = "UTC"
    write(tmp_path / f"t.{form}", values)
    dataset = ingest(str(tmp_path / f"t.{form}"), name="times", holdout=0.1)
    field = dataset.schema.field("x")
    assert isinstance(field, Timestamp) and field.timezone == zone
    assert PER_SECOND[field.unit] >= PER_SECOND[unit]
    table = there_and_back(dataset, field.arrow())
    kept = set(table["x"].combine_chunks().cast(pa.int64()).to_pylist())
    assert kept <= set(values.cast(field.arrow()).cast(pa.int64()).to_pylist()) and len(kept) > ROWS // 2


def test_times_in_seconds_are_generated_within_those_of_the_data(home: Path, tmp_path: Path) -> None:
    values = pa.array(np.arange(ROWS) * 1001 + 1_700_000_000).cast(pa.timestamp("s"))
    write(tmp_path / "t.csv", values)
    dataset = ingest(str(tmp_path / "t.csv"), name="seconds")
    assert dataset.schema.field("x").arrow() == pa.timestamp("s")
    codec = fit(TabularCodec, dataset.schema, list(dataset.batches("train")), CodecConfig(rare="keep"))
    streamed = open_source(dataset, codec, "tokens", seed=0, batch_size=32, memory_mb=0)
    assert len(np.unique(streamed.batch(0, size=32, start=0, stop=32)["x"], axis=0)) > 10
    made = generate(train(dataset, recipe="tabular_trees"), rows=200, workers=0).table("generated")["x"]
    assert pc.min(values).as_py() <= pc.min(made).as_py() < pc.max(made).as_py() <= pc.max(values).as_py()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_dates_of_ten_thousand_years(home: Path, tmp_path: Path, form: str) -> None:
    days = np.random.default_rng(0).integers(YEAR_1 // 86_400, YEAR_9999 // 86_400, ROWS, endpoint=True)
    days[:2] = YEAR_1 // 86_400, YEAR_9999 // 86_400
    values = pa.array(days.astype(np.int32), mask=np.arange(ROWS) % 4 == 3).cast(pa.date32())
    write(tmp_path / f"t.{form}", values)
    table = there_and_back(ingest(str(tmp_path / f"t.{form}"), name="dates", holdout=0.1), pa.date32())
    assert set(table["x"].to_pylist()) <= set(values.to_pylist())


def test_the_report_shows_moments_python_does_not_know() -> None:
    fields: tuple[AnyField, ...] = (
        Timestamp(name="west", unit="s", timezone="America/New_York"),
        Timestamp(name="fine", unit="ns", timezone="Europe/Paris", nullable=True),
        Date(name="day"),
    )
    schema = Schema(kind="tabular", fields=fields)
    west = moments("s", "America/New_York")
    columns = [
        west,
        moments("ns", "Europe/Paris", nulls=True),
        west.cast(pa.timestamp("s")).cast(pa.date32()),
    ]
    table = pa.Table.from_arrays(columns, schema=schema.arrow())
    report = evaluate_tables(table, table, table, schema, seed=0, lineage={})
    page = render(
        report, holdout=table, synthetic=table, schema=schema, history=(), title="t", real_examples=False
    )
    assert "0000-12-31 19:03:58" in page


PARIS = Timestamp(name="x", timezone="Europe/Paris")


@pytest.mark.parametrize(
    ("texts", "utc"),
    [
        (["2024-07-01 12:00", "2024-01-01 12:00"], ["2024-07-01 10:00", "2024-01-01 11:00"]),
        (["2024-10-27 02:30", "2024-10-27 03:30"], ["2024-10-27 00:30", "2024-10-27 02:30"]),
        (["2024-10-27 02:30+02:00", "2024-10-27 02:30+01:00"], ["2024-10-27 00:30", "2024-10-27 01:30"]),
        (["1000-01-01 00:00", None], ["0999-12-31 23:50:39", None]),
    ],
)
def test_text_without_a_zone_is_local_to_that_of_the_schema(texts: list, utc: list) -> None:
    field = PARIS.model_copy(update={"nullable": True})
    wanted = pa.array(utc).cast(pa.timestamp("us")).cast(pa.int64())
    for values in (
        pa.array(texts),
        *([pa.array(texts).cast(pa.timestamp("s"))] if "+" not in texts[0] else []),
    ):
        assert convert_column(values, field, Place("f.csv", 2)).cast(pa.int64()).equals(wanted)


@pytest.mark.parametrize(
    ("texts", "field", "message"),
    [
        (["2024-01-01 00:00", "2024-03-31 02:30"], PARIS, r"row 3:x: '2024-03-31 02:30'; .*Europe/Paris\]"),
        (["1000-01-01 00:00"], Timestamp(name="x", unit="ns"), r"expected timestamp\[ns\] \(the years 1678"),
        (["2024-01-01 00:00:00.5"], Timestamp(name="x", unit="s"), r"expected timestamp\[s\]"),
        (["2024-01-01 00:00Z"], Timestamp(name="x"), r"expected timestamp\[us\]"),
        (["2024-01-01 00:00Z", "2024-01-01 00:00"], PARIS, r"row 3:x: '2024-01-01 00:00'"),
    ],
)  # fmt: skip
def test_moments_the_schema_cannot_hold_are_named(texts: list[str], field: AnyField, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert_column(pa.array(texts), field, Place("f.csv", 2))


NUMBERS = np.arange(ROWS)


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        (pa.array([Decimal(i) / 100 for i in range(ROWS)], pa.decimal128(12, 2)), "number", "2 decimals"),
        (pa.array([Decimal(10**25 + i) for i in range(ROWS)], pa.decimal128(38, 0)), "identifier", "18 dig"),
        (pa.array(NUMBERS.astype(np.int32) * 60).cast(pa.time32("s")), "integer", "time of day, in milli"),
        (pa.array(NUMBERS * 7).cast(pa.time64("ns")), "integer", "time of day, in nanoseconds"),
        (pa.array(NUMBERS * 7).cast(pa.duration("us")), "integer", "duration, in microseconds"),
        (pa.array([2**63 + i for i in range(ROWS)], pa.uint64()), "identifier", "more than 18 digits"),
        (pa.array(NUMBERS % 50, pa.uint64()), "integer", "whole numbers"),
        (pa.array(["a", "b"] * 60).dictionary_encode(), "category", "2 different texts"),
        (pa.array(["a", "b"] * 60, pa.large_string()), "category", "2 different texts"),
        (pa.array(["a", "b"] * 60, pa.string_view()), "category", "2 different texts"),
    ],
    ids=lambda v: str(v.type) if isinstance(v, pa.Array) else None,
)  # fmt: skip
def test_parquet_types_become_the_kind_that_holds_them(
    home: Path, tmp_path: Path, values: pa.Array, kind: str, reason: str
) -> None:
    write(tmp_path / "t.parquet", values)
    dataset = ingest(str(tmp_path / "t.parquet"), name="types", holdout=0.1)
    field = dataset.schema.field("x")
    assert field.kind == kind and reason in field.reason
    there_and_back(dataset, field.arrow())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([b"a\xff"] * ROWS), r"t.parquet:row 1:x: a column of type binary; .* write it as text"),
        (pa.array([b"ab"] * ROWS, pa.binary(2)), r"a column of type fixed_size_binary\[2\]; .* hexadecimal"),
    ],
    ids=lambda v: str(v.type) if isinstance(v, pa.Array) else None,
)
def test_parquet_types_without_a_kind_are_named(
    home: Path, tmp_path: Path, values: pa.Array, message: str
) -> None:
    write(tmp_path / "t.parquet", values)
    with pytest.raises(DataError, match=message):
        ingest(str(tmp_path / "t.parquet"), name="types", holdout=0.1)


def test_a_column_too_large_for_64_bits_in_one_part_of_the_data_only(home: Path, tmp_path: Path) -> None:
    values: list[Any] = [*range(ROWS - 1), 2**64 - 1]
    write(tmp_path / "t.parquet", pa.array(values, pa.uint64()))
    dataset = ingest(str(tmp_path / "t.parquet"), name="types", holdout=0.1)
    assert set(dataset.table("train")["x"].to_pylist()) <= set(map(str, values))
