"""Sheets of Excel and files of Arrow: what the cells hold, below the row that names them."""

from __future__ import annotations

import datetime
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pytest
import xlsxwriter

from genpipe.errors import DataError, UsageError
from genpipe.verbs import ingest

DAY = datetime.date(2024, 1, 1)


def row(i: int) -> list[Any]:
    moment = datetime.datetime(2024, 1, 1, i % 24, 30)
    return [
        f"id{i:04d}",
        20 + i % 50,
        i / 8,
        ("Ulm", "Bonn")[i % 2],
        DAY + datetime.timedelta(i),
        moment,
        i % 3 == 0,
    ]


def workbook(path: Path, rows: int = 200, *, title: bool = False) -> None:
    with xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"}) as book:
        sheet = book.add_worksheet("People")
        book.add_worksheet("Empty")
        moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        top = 0
        if title:
            sheet.write_string(0, 0, "All people of 2024")
            top = 3
        sheet.write_row(top, 0, ["code", "age", "fee", "city", "day", "at", "member"])
        for i in range(rows):
            below = top + 1 + i + (i >= 50)  # an empty row within
            values = row(i)
            for place, value in enumerate(values):
                form = moment if place == 5 else None
                if not (place == 1 and i % 10 == 0):
                    sheet.write(below, place, value, form)
        sheet.write(top + 60, 2, "#N/A")


@pytest.mark.parametrize("title", [False, True])
def test_a_sheet_has_the_values_of_its_cells(home: Path, tmp_path: Path, title: bool) -> None:
    workbook(tmp_path / "people.xlsx", title=title)
    data = ingest(str(tmp_path / "people.xlsx"), holdout=0)
    kinds = [f.kind for f in data.schema.fields]
    assert kinds == ["identifier", "integer", "number", "category", "date", "timestamp", "boolean"]
    found = data.arrow().sort_by("code").to_pylist()
    assert len(found) == 200
    for i, values in enumerate(found):
        wanted = row(i)
        wanted[1] = None if i % 10 == 0 else wanted[1]
        wanted[2] = None if i == 58 else wanted[2]
        assert list(values.values()) == wanted


def test_a_merged_cell_is_the_value_of_all_its_rows(home: Path, tmp_path: Path) -> None:
    with xlsxwriter.Workbook(str(tmp_path / "merged.xlsx")) as book:
        sheet = book.add_worksheet("a")
        sheet.write_row(0, 0, ["region", "n"])
        for i in range(60):
            sheet.write(1 + i, 1, i % 7)
        for start, word in ((1, "north"), (31, "south")):
            sheet.merge_range(start, 0, start + 29, 0, word)
    data = ingest(str(tmp_path / "merged.xlsx"), holdout=0)
    assert data.arrow()["region"].to_pylist() == ["north"] * 30 + ["south"] * 30


def test_a_header_may_be_said(home: Path, tmp_path: Path) -> None:
    with xlsxwriter.Workbook(str(tmp_path / "odd.xlsx")) as book:
        for name in ("a", "b"):
            sheet = book.add_worksheet(name)
            sheet.write_row(0, 0, ["some", "words", "here"])
            sheet.write_row(1, 0, ["x", "y", "z"])
            for i in range(50):
                sheet.write_row(2 + i, 0, [i % 5, i % 2, name])
    place = str(tmp_path / "odd.xlsx")
    assert ingest(place, sheet="b", skip=1, holdout=0).schema.names == ("x", "y", "z")
    assert ingest(place, sheet=1, skip=2, header=False, names=["p", "q", "r"], holdout=0).rows() == 50
    with pytest.raises(DataError, match=r"2 sheets with values \(a, b\)"):
        ingest(place)


def test_a_sheet_that_grows_beyond_its_memory_is_refused(home: Path, tmp_path: Path) -> None:
    """A bomb: cells that name one long text a million times."""
    workbook(tmp_path / "small.xlsx", rows=30)
    cells = "".join(f'<row r="{i}"><c r="A{i}" t="s"><v>0</v></c></row>' for i in range(1, 400_000))
    long = f'<sst count="1" uniqueCount="1"><si><t>{"x" * 60_000}</t></si></sst>'
    with (
        zipfile.ZipFile(tmp_path / "small.xlsx") as old,
        zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("sheet1.xml"):
                data = f"<worksheet><sheetData>{cells}</sheetData></worksheet>".encode()
            if name.endswith("sharedStrings.xml"):
                data = long.encode()
            new.writestr(name, data)
    assert (tmp_path / "bomb.xlsx").stat().st_size < 4_000_000
    with pytest.raises(DataError, match=r"memory=|grow to more"):
        ingest(str(tmp_path / "bomb.xlsx"), memory=96 * 2**20)


def test_no_reader_of_sheets(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workbook(tmp_path / "people.xlsx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install python-calamine"):
        ingest(str(tmp_path / "people.xlsx"))


def test_files_of_arrow_are_read_as_parquet_is(home: Path, tmp_path: Path) -> None:
    names = ["code", "age", "fee", "city", "day", "at", "member"]
    table = pa.table(dict(zip(names, zip(*map(row, range(200)), strict=True), strict=True)))
    feather.write_feather(table, tmp_path / "people.feather")
    with pa.ipc.new_file(tmp_path / "people.arrow", table.schema) as out:
        out.write_table(table, max_chunksize=7)
    first = ingest(str(tmp_path / "people.feather"), holdout=0)
    assert ingest(str(tmp_path / "people.arrow"), holdout=0, name="b").arrow().equals(first.arrow())
    assert first.arrow()["day"].to_pylist() == table["day"].to_pylist()
