"""Dates as people write them: found, read, explained, and refused with the row."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from genpipe.errors import DataError
from genpipe.sources.schema_file import schema_to_yaml
from genpipe.verbs import ingest

DAYS = [datetime(2015, 1, 1, 0, 5) + timedelta(days=37 * i, hours=5 * i) for i in range(60)]
FORMATS = {
    "us": "%m/%d/%Y",
    "german": "%d.%m.%Y",
    "dashes": "%d-%m-%Y",
    "year first": "%Y/%m/%d",
    "clock": "%d/%m/%Y %H:%M",
    "seconds": "%m/%d/%Y %H:%M:%S",
    "half days": "%m/%d/%Y %I:%M %p",
}


def table(path: Path, columns: dict[str, list[str]]) -> str:
    rows = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


@pytest.mark.parametrize("padded", [True, False])
def test_formats_are_found_and_read_exactly(home: Path, tmp_path: Path, padded: bool) -> None:
    shown = {name: f if padded else f.replace("%m", "%-m") for name, f in FORMATS.items()}
    texts = {name: [d.strftime(f) for d in DAYS] for name, f in shown.items()}
    dataset = ingest(table(tmp_path / "days.csv", texts), name="days", holdout=0.1)
    rows = dataset.table("train").to_pylist() + dataset.table("holdout").to_pylist()
    for name, wanted in FORMATS.items():
        field = dataset.schema.field(name)
        assert getattr(field, "format", None) == wanted and wanted in field.reason
        clock = "%H" in wanted or "%I" in wanted
        assert field.kind == ("timestamp" if clock else "date")
        expected = [d.replace(second=0) if clock else d.date() for d in DAYS]
        assert sorted(row[name] for row in rows) == expected
    assert "format: '%m/%d/%Y'" in schema_to_yaml(dataset.schema)


def test_where_both_would_do_the_month_is_first_between_slashes_and_the_reason_says_so(
    home: Path, tmp_path: Path
) -> None:
    texts = {
        "day": [f"{1 + i % 12}/{1 + i % 11}/2020" for i in range(60)],
        "x": [str(i % 7) for i in range(60)],
    }
    field = ingest(table(tmp_path / "days.csv", texts), name="days", holdout=0.1).schema.field("day")
    assert getattr(field, "format", None) == "%m/%d/%Y"
    assert "%d/%m/%Y would do as well: set `format`" in field.reason


def test_what_is_no_day_is_refused_with_its_row(home: Path, tmp_path: Path) -> None:
    texts = {"day": [d.strftime("%d/%m/%Y") for d in DAYS], "x": [str(i % 7) for i in range(60)]}
    texts["day"][7] = "31/02/2017"  # C's strptime takes it for the third of March
    source = table(tmp_path / "days.csv", texts)
    with pytest.raises(DataError, match="1 of 60 values are not written as %d/%m/%Y; expected dates"):
        ingest(source, name="days", holdout=0.1)
    schema = tmp_path / "days.yaml"
    schema.write_text(
        "kind: tabular\nfields:\n"
        "  - {name: day, kind: date, format: '%d/%m/%Y'}\n  - {name: x, kind: integer}\n"
    )
    with pytest.raises(DataError, match=r"row 9:day: '31/02/2017'; expected date"):
        ingest(source, name="days", holdout=0.1, schema=str(schema))
    texts["day"][7] = "28/02/2017"
    made = ingest(table(tmp_path / "days.csv", texts), name="days", holdout=0.1)
    days = [d for split in ("train", "holdout") for d in made.table(split)["day"].to_pylist()]
    assert date(2017, 2, 28) in days


@pytest.mark.parametrize("text", ["1/2", "10.0.0.1", "1/2/3", "12/2020/1", "1-2-03", "1.2.3.4"])
def test_other_texts_stay_texts(home: Path, tmp_path: Path, text: str) -> None:
    texts = {"version": [text] * 60, "x": [f"{i}.5" for i in range(60)]}
    schema = ingest(table(tmp_path / "t.csv", texts), name="t", holdout=0.1).schema
    assert schema.field("version").kind not in ("date", "timestamp")
