"""CSV as pieces of whole records that are parsed anywhere, in any order; every fault is named with its row.

Cutting the file ourselves, at line ends outside quotes, bounds memory (Arrow's own reader runs 32 blocks
ahead) and lets pieces be parsed on all threads. A row in a message is the line it begins on.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from pydantic import BeforeValidator, Field, field_validator

from genpipe.errors import DataError
from genpipe.sources.base import Options, Piece
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.limits import MAX_HEADER, beyond, check_names
from genpipe.sources.stream import Checked, Encoding, wrong_byte
from genpipe.sources.tabular.csv_faults import diagnose
from genpipe.sources.tabular.csv_header import check_header, found_delimiter

NULLS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "?", "<NA>", "NaT")
HEAD = 2**20
SOME_LINES = 100
WIDE = 1024  # bytes a column, at least, in a piece of a table with thousands of columns


def _flag(value: object) -> object:
    """`none`, as other tools call it, is no header."""
    return False if isinstance(value, str) and value.lower() == "none" else value


def _one(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one)]


class CsvOptions(Options):
    """encoding: of text files. delimiter: None = found from the header. decimal: "," for 1,5.

    nulls: texts that stand for a missing value. header: whether the first row holds the names; by default it
    does unless names= gives them. names: of the columns. skip: lines before the header, or the first row.
    comment: what lines begin with that are left out.
    """

    encoding: Encoding = "utf-8"
    delimiter: str | None = None
    decimal: str = "."
    nulls: tuple[str, ...] = NULLS
    header: Annotated[bool, BeforeValidator(_flag)] | None = None
    names: Names = ()
    skip: int = Field(default=0, ge=0, le=100_000)
    comment: str | None = Field(default=None, min_length=1, max_length=8)

    @field_validator("delimiter", "decimal")
    @classmethod
    def _one_character(cls, mark: str | None) -> str | None:
        if mark and (len(mark) > 1 or not mark.isascii() or mark in '"\r\n\0'):
            raise ValueError("one ASCII character that is no quote and no line end")
        return mark


@dataclass(frozen=True)
class Header:
    """names of the columns. lines: those before the data. newline: their end."""

    names: tuple[str, ...]
    delimiter: str
    lines: int
    newline: bytes


def read_header(file: File, options: CsvOptions) -> Header:
    checked = Checked(file, encoding=options.encoding, memory=options.memory)
    head = checked.read(HEAD)
    while b"\n" not in head.lstrip() and b"\r" not in head.lstrip() and (more := checked.read(HEAD)):
        head += more
        if len(head) > MAX_HEADER:
            long = f"a first line of more than {MAX_HEADER} bytes"
            raise beyond(file.uri, long, str(MAX_HEADER), "is it a table with a header?")
    if not head.strip(b"\xef\xbb\xbf").decode(errors="replace").strip():
        raise DataError(
            "EMPTY", where=file.uri, found="no header and no rows", expected="a header line and data"
        )
    newline = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
    lines = list(io.StringIO(_first_lines(head, file), newline=""))
    skipped = options.skip
    while skipped < len(lines) and (not lines[skipped].strip() or _is_comment(lines[skipped], options)):
        skipped += 1
    text = lines[skipped:]
    delimiter = options.delimiter or found_delimiter("".join(text[:SOME_LINES]))
    reader = csv.reader((line for line in text if not _is_comment(line, options)), delimiter=delimiter)
    try:
        first = [cell.strip() for cell in next(reader, [])]
        length = reader.line_num
    except csv.Error as error:  # a cell of 131072 characters
        raise DataError(
            "HEADER",
            where=file.uri,
            found=f"no row of names ({error})",
            expected="short names, with every quote closed",
            fix="correct the first row, or pass delimiter=",
        ) from None
    rows = _rows(reader) if options.header is None else []
    has = not options.names if options.header is None else options.header
    names = list(options.names) or (first if has else [f"column_{i + 1}" for i in range(len(first))])
    check_names(names, file.uri)
    check_header(file.uri, names, first, rows if has else [], sure=bool(options.header or options.names))
    return Header(tuple(names), delimiter, skipped + (length if has else 0), newline)


def _rows(reader: Iterator[list[str]]) -> list[list[str]]:
    """Some rows below the first; up to one that is no row."""
    rows = list[list[str]]()
    with contextlib.suppress(csv.Error):
        rows.extend(itertools.islice(reader, SOME_LINES))
    return rows


def _is_comment(line: str, options: CsvOptions) -> bool:
    return options.comment is not None and line.startswith(options.comment)


def _first_lines(head: bytes, file: File) -> str:
    """Text up to the last line end, so that no character is cut in two."""
    whole = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] if len(head) >= HEAD // 2 else head
    try:
        return (whole or head).decode()
    except UnicodeDecodeError as error:
        raise wrong_byte(file, error.start, head[error.start], "utf-8") from None


def pieces(file: File, options: CsvOptions) -> Iterator[Piece]:
    """Whole records, about `options.block` bytes at a time, as calls that parse them."""
    header = read_header(file, options)
    checked = Checked(file, encoding=options.encoding, memory=options.memory)
    rest, line, skip = b"", 1, header.lines
    # a batch costs by its columns: a wide table is read in longer pieces
    block = max(options.block, min(options.longest, WIDE * len(header.names)))
    past = 0  # quotes before `rest`, which is the beginning of one record
    while True:
        chunk = checked.read(block)
        last = not chunk
        if skip or last:
            rest, chunk = b"", rest + chunk
        while skip and header.newline in chunk:
            before, _, chunk = chunk.partition(header.newline)
            skip, line, past = skip - 1, line + 1, past + before.count(b'"')
        quotes = checked.quotes - past
        cut, after = (
            (0, quotes) if skip else (len(chunk), 0) if last else boundary(chunk, header.newline, quotes)
        )
        if cut:
            piece, rest = b"".join((rest, memoryview(chunk)[:cut])), chunk[cut:]
            if not piece.isspace():
                yield partial(
                    _parse, _without_comments(piece, options), Place(file.uri, line), header, file, options
                )
            line, past = line + piece.count(header.newline), checked.quotes - after
        else:
            rest += chunk
        if len(rest) > options.longest:
            raise diagnose(file, options, options.encoding, header.delimiter, len(header.names), header.lines)
        if last:
            break
    if checked.quotes % 2:
        fault = diagnose(file, options, options.encoding, header.delimiter, len(header.names), header.lines)
        if fault.code == "QUOTE":
            raise fault


def _without_comments(piece: bytes, options: CsvOptions) -> bytes:
    """Empty lines, which the parser leaves out, in place of comments: so rows keep their numbers."""
    if options.comment is None:
        return piece
    return re.sub(rb"(?m)^" + re.escape(options.comment.encode()) + rb"[^\r\n]*", b"", piece)


def boundary(data: bytes, newline: bytes, quotes: int) -> tuple[int, int]:
    """(length, quotes left over) of the whole records in `data`, which holds so many `quotes`.

    A record ends at a line end with an even number of quotes before it.
    """
    cut, after = len(data), 0
    while True:
        at = data.rfind(newline, 0, cut)
        if at < 0:
            return 0, quotes
        after += data.count(b'"', at, cut)
        if (quotes - after) % 2 == 0:
            return at + 1, after
        cut = data.rfind(b'"', 0, at)  # the line ends behind it are in the same cell as this one
        if cut < 0:
            return 0, quotes
        after += 1


def _parse(
    piece: bytes, place: Place, header: Header, file: File, options: CsvOptions
) -> tuple[pa.RecordBatch, Place]:
    try:
        table = pacsv.read_csv(
            pa.BufferReader(piece),
            read_options=pacsv.ReadOptions(
                column_names=header.names, block_size=len(piece) + 1, use_threads=False
            ),
            parse_options=pacsv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(header.names, pa.string()),
                null_values=list(options.nulls),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
    except (pa.ArrowException, OSError) as error:
        told = str(error).splitlines()[0][:300]
        raise diagnose(
            file, options, options.encoding, header.delimiter, len(header.names), header.lines, told
        ) from None
    columns = [_decimal(column.combine_chunks(), options.decimal) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, names=list(header.names)), place


def _decimal(values: pa.Array, mark: str) -> pa.Array:
    """1,5 -> 1.5 where the comma is the decimal mark."""
    if mark == ".":
        return values
    return pc.replace_substring_regex(values, rf"^([+-]?\d+){re.escape(mark)}(\d+)$", r"\1.\2")
