"""Data frames in memory: read as a file of the same content is, fingerprinted by what is in them."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genpipe.errors import DataError, UsageError
from genpipe.verbs import ingest

COLUMNS: dict[str, list[Any]] = {
    "age": [20 + i % 60 for i in range(80)],
    "city": ["Oslo", "Rome"] * 40,
    "pay": [f"${i * 37.5:,.2f}" for i in range(80)],
    "day": list(pd.date_range("2020-01-01", periods=80)),
}


class Interchange:
    """What speaks the older protocol alone."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def __dataframe__(self, **more: Any) -> Any:
        return self.frame.__dataframe__(**more)


FRAMES = {
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas with an index": lambda: pd.DataFrame(COLUMNS, index=[f"r{i}" for i in range(80)]),
    "arrow": lambda: pa.table(COLUMNS),
    "chunks": lambda: pa.concat_tables([pa.table(COLUMNS).slice(0, 7), pa.table(COLUMNS).slice(7)]),
    "batch": lambda: pa.table(COLUMNS).to_batches()[0],
    "interchange": lambda: Interchange(pd.DataFrame(COLUMNS)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_the_dataset_its_file_would_be(home: Path, tmp_path: Path, name: str) -> None:
    pq.write_table(pa.table(COLUMNS), tmp_path / "t.parquet")
    file = ingest(str(tmp_path / "t.parquet"), name="file", target="city")
    frame = ingest(FRAMES[name](), name="frame", target="city")
    assert frame.schema.names == tuple(COLUMNS)
    assert frame.schema.field("pay").kind == "number"
    for split in ("train", "holdout"):
        mine, theirs = frame.table(split), file.table(split)
        assert mine.drop(["day"]).equals(theirs.drop(["day"]))  # pandas has other units of time
        assert [str(d)[:10] for d in mine["day"].to_pylist()] == [
            str(d)[:10] for d in theirs["day"].to_pylist()
        ]


def test_the_same_content_is_read_once_and_other_content_again(home: Path) -> None:
    first = ingest(pd.DataFrame(COLUMNS), name="t")
    assert ingest(pd.DataFrame(COLUMNS), name="t").uri == first.uri
    assert ingest(pd.DataFrame(COLUMNS | {"age": [1] * 80}), name="t").uri != first.uri
    assert ingest(pd.DataFrame(COLUMNS), name="t", drop="pay").schema.names == ("age", "city", "day")


def test_what_cannot_be_read_is_said(home: Path) -> None:
    with pytest.raises(DataError, match="a table Arrow can hold"):
        ingest(pd.DataFrame({"a": [1, "x", None] * 30}), name="t")
    with pytest.raises(DataError, match="Duplicate column names"):
        ingest(pd.DataFrame([[1, 2]] * 30, columns=["a", "a"]), name="t")
    with pytest.raises(UsageError, match="a data frame as text"):
        ingest(pd.DataFrame(COLUMNS), name="t", kind="text")


def test_a_frame_of_polars_is_what_the_same_file_is(home: Path, tmp_path: Path) -> None:
    import polars as pl

    day = datetime.date(2024, 1, 1)
    frame = pl.DataFrame(
        {
            "age": pl.Series([20 + i % 50 if i % 7 else None for i in range(200)], dtype=pl.Int16),
            "city": pl.Series([("Ulm", "Bonn", "Köln")[i % 3] for i in range(200)], dtype=pl.Categorical),
            "kind": pl.Series(["a" if i % 2 else "b" for i in range(200)], dtype=pl.Enum(["a", "b"])),
            "fee": pl.Series([i / 8 for i in range(200)], dtype=pl.Float32),
            "day": [day + datetime.timedelta(days=i) for i in range(200)],
            "at": [datetime.datetime(2024, 1, 1, i % 24) for i in range(200)],
        }
    )
    frame.write_parquet(tmp_path / "people.parquet")
    data = ingest(frame, name="framed", holdout=0)
    file = ingest(str(tmp_path / "people.parquet"), holdout=0)
    assert [f.kind for f in data.schema.fields] == [
        "integer", "category", "category", "number", "date", "timestamp",
    ]  # fmt: skip
    assert data.arrow().equals(file.arrow())
    assert data.polars()["city"].to_list() == frame["city"].cast(pl.String).to_list()
    assert ingest(frame, name="framed", holdout=0).uri == data.uri
