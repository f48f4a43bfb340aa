"""What is wrong with a CSV file that Arrow refused: read again, slowly and exactly, to name the row."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from genpipe.errors import DataError
from genpipe.sources.base import Options
from genpipe.sources.files import File
from genpipe.sources.limits import beyond
from genpipe.sources.stream import Checked, wrong_byte


def diagnose(
    file: File, options: Options, encoding: str, delimiter: str, columns: int, header: int, told: str = ""
) -> DataError:
    """Name the row where it goes wrong. header: its lines; told: what the parser said."""
    reader = csv.reader(_lines(file, options, encoding), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            if cells and start > header and len(cells) != columns:
                return DataError(
                    "RAGGED",
                    where=f"{file.uri}:row {start}",
                    found=f"{len(cells)} cells",
                    expected=f"{columns} as in the header",
                    fix=f"quote cells that contain {delimiter!r}, or pass delimiter=",
                )
            start = reader.line_num + 1
    except DataError as fault:
        return fault
    except csv.Error as fault:
        if "field larger" in str(fault):
            return DataError(
                "CELLSIZE",
                where=f"{file.uri}:row {start}",
                found="a cell of more than 131072 characters",
                fix="is a quote left open there?",
            )
        return DataError(
            "QUOTE",
            where=f"{file.uri}:row {start}",
            found="a quote that is never closed properly",
            expected='"text", with "" for a quote inside',
            fix="close the quote that begins in this row",
        )
    if not told:
        return _long(file, options)
    return DataError("CSV", where=file.uri, found=told, fix="check the file around the place named")


def _long(file: File, options: Options) -> DataError:
    found, fix = f"a record of more than {options.longest} bytes", "raise memory=, or correct the file there"
    return beyond(file.uri, found, f"{options.longest} with memory={options.memory}", fix)


def _lines(file: File, options: Options, encoding: str) -> Iterator[str]:
    """Lines as text; a wrong byte is a DataError with its offset."""
    checked, offset, rest = Checked(file, encoding=encoding, memory=options.memory), 0, b""
    while True:
        chunk = checked.read(2**20)
        lines = (rest + chunk).splitlines(keepends=True)
        rest = lines.pop() if chunk and lines else b""
        for line in lines:
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise wrong_byte(file, offset + error.start, line[error.start], encoding) from None
            offset += len(line)
        if len(rest) > options.longest:
            raise _long(file, options)
        if not chunk:
            return
