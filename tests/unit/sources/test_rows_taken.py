"""Some rows of a table: those that where= describes, and a share of them."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genpipe.dataset import Dataset
from genpipe.errors import DataError, UsageError
from genpipe.sources import open_source
from genpipe.sources.tabular.rows import LEFT
from genpipe.verbs import ingest

ROWS = 400


def frame() -> pd.DataFrame:
    i = np.arange(ROWS)
    days = [datetime.date(2026, 1, 1) + datetime.timedelta(days=int(n) % 90) for n in i]
    city = np.where(i % 7 == 0, None, np.array(["Ulm", "Bonn", "Köln"])[i % 3])  # type: ignore[call-overload]
    return pd.DataFrame({"age": i % 60, "city": city, "day": days, "pay": (i % 11) * 10.5, "who": i // 4})


def written(form: str, path: Path) -> Any:
    table = frame()
    if form == "frame":
        return table
    file = path / f"people.{form}"
    if form == "csv":
        table.to_csv(file, index=False)
    elif form == "jsonl":
        table.astype({"day": str}).to_json(file, orient="records", lines=True)
    else:
        table.to_parquet(file)
    return str(file)


def taken(dataset: Dataset) -> pd.DataFrame:
    parts = [dataset.table(split).to_pandas() for split in ("train", "holdout")]
    return pd.concat(parts).sort_values(["age", "pay", "who"])


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "frame"])
@pytest.mark.parametrize(
    "where, query",
    [
        ("age>=30", "age >= 30"),
        ("pay < 10.5", "pay < 10.5"),
        ("age=7", "age == 7"),
        ("city = Ulm", "city == 'Ulm'"),
        ("city!=Ulm", "city != 'Ulm' and city.notna()"),
        (["age>20", "age<=50", "city=Köln"], "20 < age <= 50 and city == 'Köln'"),
        ("day>=2026-02-15", "day >= @datetime.date(2026, 2, 15)"),
    ],
)
def test_rows_are_those_it_describes(form: str, where: Any, query: str, home: Path, tmp_path: Path) -> None:
    options = {"entity": "none: made up", "min_rows": 1, "holdout": 0.2, "where": where}
    made = ingest(written(form, tmp_path), name="t", **options)
    wanted = frame().query(query)
    assert sorted(taken(made)["who"].tolist()) == sorted(wanted["who"].tolist())
    assert any(LEFT.format(n=ROWS - len(wanted)) == notice for notice in made.notices)


def test_a_column_may_decide_and_be_left_out(home: Path, tmp_path: Path) -> None:
    source = written("csv", tmp_path)
    made = ingest(source, name="t", where="age>=30", drop="age", entity="none: made up")
    assert "age" not in made.schema.names and made.rows() == (frame()["age"] >= 30).sum()


@pytest.mark.parametrize(
    "where, match",
    [
        ("agee>3", r"unknown column 'agee'.*did you mean 'age'"),
        ("city>Ulm", "expected a number, or a date"),
        ("age", "no sign between a column and a value"),
        ("pay>>3", "expected a number, or a date"),
    ],
)
def test_what_cannot_be_compared_is_told(where: str, match: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=match):
        ingest(written("csv", tmp_path), name="t", where=where)


BERLIN = pa.timestamp("us", "Europe/Berlin")
HALF = 30 * 60 * 10**6


@pytest.mark.parametrize(
    ("column", "where", "wanted"),
    [
        ([2**53, 2**53 + 1, 7, None], f"x={2**53 + 1}", [1]),
        ([2**53, 2**53 + 1, 7, None], "x>6.5", [0, 1, 2]),
        ([2**53, 2**53 + 1, 7, None], "x<1e3", [2]),
        ([2**53, 2**53 + 1, 7, None], f"x<{10**30}", [0, 1, 2]),
        (pa.nulls(4), "x!=1", []),
        (pa.array([-3 * HALF, -HALF, HALF, None], BERLIN), "x>=1970-01-01", [1, 2]),
        (pa.array([-3 * HALF, -HALF, HALF, None], BERLIN), "x>=1970-01-01T00:00Z", [2]),
        (pa.array([0, 1, 2, None], pa.timestamp("us")), "x<9999-12-31", [0, 1, 2]),
    ],
)
def test_of_typed_columns(column: Any, where: str, wanted: list[int], tmp_path: Path) -> None:
    """Whole numbers beyond 2^53, nothing at all, and the clock of the column's zone."""
    pq.write_table(pa.table({"n": range(4), "x": column}), tmp_path / "x.parquet")
    source = open_source(str(tmp_path / "x.parquet"), options={"where": where})
    (piece,) = source.pieces(source.files[0])  # type: ignore[attr-defined]
    assert piece()[0]["n"].to_pylist() == wanted


def test_long_numbers_of_a_text_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(f"n,x\n0,{2**53}\n1,{2**53 + 1}\n")
    source = open_source(str(tmp_path / "x.csv"), options={"where": f"x={2**53 + 1}"})
    (piece,) = source.pieces(source.files[0])  # type: ignore[attr-defined]
    assert piece()[0]["n"].to_pylist() == ["1"]


def test_that_no_row_is_so_is_told(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of 400 rows is age>=99"):
        ingest(written("csv", tmp_path), name="t", where="age>=99")


def test_a_file_without_such_rows_is_no_bad_file(home: Path, tmp_path: Path) -> None:
    table = frame()
    table[table["age"] < 30].to_csv(tmp_path / "young.csv", index=False)
    table[table["age"] >= 30].to_csv(tmp_path / "old.csv", index=False)
    made = ingest(str(tmp_path), name="t", where="age>=30", entity="none: made up", workers=0)
    assert made.rows() == (table["age"] >= 30).sum()


def test_an_error_names_the_row_of_the_file(home: Path, tmp_path: Path) -> None:
    lines = ["a,keep", *(f"{i},{'yes' if i % 2 else 'no'}" for i in range(50)), "oops,yes"]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    schema = tmp_path / "schema.yaml"
    ingest(str(tmp_path / "x.csv"), name="t", drop="a")
    fields = "fields:\n- {name: a, kind: integer}\n- {name: keep, kind: category}\n"
    schema.write_text(f"kind: tabular\n{fields}")
    with pytest.raises(DataError, match=r"x\.csv:row 52:a"):
        ingest(str(tmp_path / "x.csv"), name="t", where="keep=yes", schema=str(schema))


def test_a_sample_is_of_rows_and_always_the_same(home: Path, tmp_path: Path) -> None:
    source = written("csv", tmp_path)
    first = ingest(source, name="a", sample="25%", entity="none: made up")
    again = ingest(source, name="b", sample=0.25, entity="none: made up", memory="96MiB")
    assert 60 <= first.rows() <= 140
    assert first.fingerprint == again.fingerprint


def test_a_sample_takes_whole_entities(home: Path, tmp_path: Path) -> None:
    table = frame()
    table["who"] = [f"p{n:04d}" for n in table["who"]]
    table["born"] = [f"19{int(w[1:]) % 70 + 20}" for w in table["who"]]
    table.to_csv(tmp_path / "visits.csv", index=False)
    source = str(tmp_path / "visits.csv")
    with pytest.raises(UsageError, match="sample_by=who"):
        ingest(source, name="t", sample=0.5)
    for options in ({"entity": "who"}, {"sample_by": "who"}):
        made = ingest(source, name="t", sample=0.5, **options)
        sizes = set(json.loads(taken(made)["who"].value_counts().to_json()).values())
        assert sizes == {4} and 100 < made.rows() < 300


@pytest.mark.parametrize("sample", [0, 1, 2, -0.1, "x", "110%"])
def test_a_share_is_a_share(sample: Any, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sample"):
        ingest(written("csv", tmp_path), name="t", sample=sample)
