"""CSV as a stream of text batches: header checked, every fault named with its row.

Arrow parses; what it would let pass or report without a row (NUL, an open quote, a ragged row, a wrong
byte) is found here. The slow, exact scan of `diagnose` runs only once something is wrong.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from genpipe.errors import DataError
from genpipe.sources.base import Options
from genpipe.sources.columns import Place
from genpipe.sources.files import Checked, File, open_stream

NULLS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "?")
DELIMITERS = ",;\t|"
HEAD = 1 << 20


class CsvOptions(Options):
    """encoding: of text files. delimiter: None = found from the header. decimal: "," for 1,5.

    nulls: texts that stand for a missing value.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    decimal: str = "."
    nulls: tuple[str, ...] = NULLS


class Header:
    """Column names of a CSV file, its delimiter and how many lines come before the data."""

    def __init__(self, file: File, options: CsvOptions) -> None:
        with open_stream(file) as stream:
            head = read_head(stream, file)
        if not head.strip(b"\xef\xbb\xbf\xff\xfe\x00\r\n\t "):
            raise DataError(
                "EMPTY", where=file.uri, found="no header and no rows", expected="a header line and data"
            )
        text = _decode(head, file, options.encoding)
        lines = text.splitlines(keepends=True)
        self.skip = next(i for i, line in enumerate(lines) if line.strip())
        first = lines[self.skip]
        self.delimiter = options.delimiter or max(
            DELIMITERS, key=lambda d: (first.count(d), -DELIMITERS.index(d))
        )
        cells = next(csv.reader(lines[self.skip :], delimiter=self.delimiter))
        self.names = [c.strip() for c in cells]
        _check_header(file, self.names)
        self.skip += 1


def read_head(stream: pa.NativeFile, file: File) -> bytes:
    try:
        return stream.read(HEAD)
    except OSError as error:
        raise DataError(
            "TRUNCATED",
            where=file.uri,
            found=f"damaged or cut off compressed file ({str(error).splitlines()[0]})",
            fix="fetch it again",
        ) from error


def _decode(head: bytes, file: File, encoding: str) -> str:
    if encoding == "utf-8" and head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise DataError(
            "ENCODING", where=file.uri, found="UTF-16 text", expected="UTF-8", fix="pass encoding='utf-16'"
        )
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise DataError(
            "ENCODING",
            where=file.uri,
            found=f"unknown encoding {encoding!r}",
            expected="a name such as utf-8, latin-1, cp1252, utf-16",
        ) from None
    try:
        return decoder.decode(head).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise wrong_byte(file, error.start, head[error.start], encoding) from None


def wrong_byte(file: File, offset: int, byte: int, encoding: str) -> DataError:
    return DataError(
        "ENCODING",
        where=file.uri,
        found=f"byte 0x{byte:02x} at offset {offset} is not {encoding}",
        expected=f"{encoding} text",
        fix="pass encoding='latin-1', 'cp1252' or whatever wrote the file",
    )


def _check_header(file: File, names: list[str]) -> None:
    empty = [str(i + 1) for i, name in enumerate(names) if not name]
    if empty:
        raise DataError(
            "HEADER",
            where=file.uri,
            found=f"no name for column {', '.join(empty[:10])}",
            expected="a name per column",
            fix="name it in the header; pandas: to_csv(index=False)",
        )
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if name.casefold() in seen:
            j = seen[name.casefold()]
            raise DataError(
                "DUPCOL",
                where=file.uri,
                found=f"columns {j + 1} and {i + 1} are both named {name!r}"
                + ("" if names[j] == name else f" (up to case: {names[j]!r})"),
                expected="different names",
                fix="rename one in the header",
            )
        seen[name.casefold()] = i
    if all(re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", name, re.I) for name in names):
        raise DataError(
            "HEADER",
            where=file.uri,
            found="the first row holds only numbers",
            expected="a header row with column names",
            fix="add one",
        )


def batches(file: File, options: CsvOptions) -> Iterator[tuple[pa.RecordBatch, Place]]:
    """Text batches of at most about `options.block` bytes; the header is row 1."""
    header = Header(file, options)
    names = header.names
    checked = Checked(
        file,
        text=options.encoding.lower().replace("_", "-") not in ("utf-16", "utf-32", "utf-16-le", "utf-16-be"),
    )
    row = header.skip + 1
    try:
        reader = pacsv.open_csv(
            pa.PythonFile(checked, mode="r"),
            read_options=pacsv.ReadOptions(
                column_names=names,
                skip_rows=header.skip,
                block_size=options.block,
                encoding=options.encoding.replace("utf-8", "utf8"),
            ),
            parse_options=pacsv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=list(options.nulls),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
        for batch in reader:
            if batch.num_rows:
                yield _decimal(batch, options), Place(file.uri, row)
                row += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise checked.fault or diagnose(file, options, header, error) from None
    if checked.quotes % 2:
        fault = diagnose(file, options, header, None)
        if fault.code == "QUOTE":
            raise fault
    if row == header.skip + 1:
        raise DataError("NOROWS", where=file.uri, found="a header and 0 rows", expected="data")


def _decimal(batch: pa.RecordBatch, options: CsvOptions) -> pa.RecordBatch:
    if options.decimal == ".":
        return batch
    pattern = rf"^([+-]?\d+){re.escape(options.decimal)}(\d+)$"
    columns = [pc.replace_substring_regex(c, pattern, r"\1.\2") for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _lines(file: File, encoding: str) -> Iterator[str]:
    """Decoded lines; a wrong byte is a DataError with its offset."""
    offset, rest = 0, b""
    wide = encoding.lower().startswith(("utf-16", "utf_16", "utf-32"))
    with open_stream(file) as stream:
        if wide:
            yield from stream.read().decode(encoding).splitlines(keepends=True)
            return
        while chunk := stream.read(1 << 20):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield _decode_line(line + b"\n", offset, file, encoding)
                offset += len(line) + 1
    if rest:
        yield _decode_line(rest, offset, file, encoding)


def _decode_line(line: bytes, offset: int, file: File, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise wrong_byte(file, offset + error.start, line[error.start], encoding) from None


def diagnose(file: File, options: CsvOptions, header: Header, error: Exception | None) -> DataError:
    """Read again, slowly, to name the row where it goes wrong."""
    reader = csv.reader(_lines(file, options.encoding), delimiter=header.delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            if cells and start > header.skip and len(cells) != len(header.names):
                return DataError(
                    "RAGGED",
                    where=f"{file.uri}:row {start}",
                    found=f"{len(cells)} cells",
                    expected=f"{len(header.names)} as in the header",
                    fix=f"quote cells that contain {header.delimiter!r}, or pass delimiter=",
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
    told = str(error).splitlines()[0] if error else "an unreadable table"
    return DataError("CSV", where=file.uri, found=told, fix="check the file around the place named")
