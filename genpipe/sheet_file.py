"""Rows as a sheet of an Excel file (.xlsx), written one after the other."""

from __future__ import annotations

import datetime
import importlib.util
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from genpipe.errors import DataError, UsageError

MOST_ROWS, MOST_COLUMNS, MOST_TEXT = 1_048_575, 16_384, 32_767
EXACT = 2**53  # whole numbers beyond are texts, as Excel has no others than doubles


def check_installed() -> None:
    """Raise UsageError where XlsxWriter is not installed, before anything is made."""
    if importlib.util.find_spec("xlsxwriter") is None:
        fix = "pip install xlsxwriter (or genpipe's extra `excel`)"
        raise UsageError("EXTRA", found="the package xlsxwriter is not installed", fix=fix)


def write_sheet(file: Path, schema: pa.Schema, tables: Iterable[pa.Table], *, rows: int) -> None:
    """One sheet with a row of names. Texts are texts, whatever they begin with; times with a zone are texts.

    Memory is one row. The same rows give the same bytes. Raises DataError for more than a sheet holds.
    """
    if rows > MOST_ROWS or len(schema.names) > MOST_COLUMNS:
        found, most = f"{rows:,} rows of {len(schema.names):,} columns", f"{MOST_ROWS:,} of {MOST_COLUMNS:,}"
        fix = "deliver it as .csv or .parquet"
        raise DataError("SHEET", found=found, expected=f"at most {most} in a sheet of Excel", fix=fix)
    import xlsxwriter

    book = xlsxwriter.Workbook(str(file), {"constant_memory": True})
    book.set_properties({"created": datetime.datetime(2000, 1, 1)})
    forms: dict[type, Any] = {
        datetime.date: book.add_format({"num_format": "yyyy-mm-dd"}),
        datetime.datetime: book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
    }
    sheet = book.add_worksheet("generated")
    for place, name in enumerate(schema.names):
        sheet.write_string(0, place, name)
    number = 0
    for table in tables:
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            number += 1
            for place, value in enumerate(row):
                _write(sheet, number, place, value, forms)
    book.close()


def _write(sheet: Any, row: int, column: int, value: Any, forms: dict[type, Any]) -> None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) <= EXACT):
        sheet.write_number(row, column, value)
    elif type(value) in forms and value.year >= 1900 and not getattr(value, "tzinfo", None):
        sheet.write_datetime(row, column, value, forms[type(value)])
    else:
        text = str(value)
        if len(text) > MOST_TEXT:
            found = f"a text of {len(text):,} characters in row {row}"
            expected, fix = f"at most {MOST_TEXT:,} in a cell", "deliver it as .csv or .parquet"
            raise DataError("SHEET", found=found, expected=expected, fix=fix)
        sheet.write_string(row, column, text)
