"""Sheets of Excel and OpenDocument: M says the names of the columns, B is a batch of rows below them.

Numbers, dates, times and booleans are what the cells hold; a column of several sorts in one batch is text.
What stands in a merged cell stands in all of its rows and columns. Empty rows, and columns without a name and
a value, are left out.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import python_calamine as calamine

from genpipe.parsing.pipe import Fetched, Pipe, serve

LOOKED, WIDE = 50, 0.8  # rows a header is looked for in; the share of the widest row's cells that one has
ERRORS = ("#N/A", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!", "#GETTING_DATA")


def send_file(pipe: Pipe, request: dict[str, Any]) -> None:
    """Every batch of one sheet. rows: of a batch. sheet: its name or number from 1, or none for the only one.
    skip: rows before the header, or none to find it. names: in place of a header, if it is false.
    """
    path = request.get("path")
    book = calamine.load_workbook(path or Fetched(pipe, request["size"]))
    sheet = _chosen(book, request["sheet"])
    rows, first = _body(sheet)
    head = list(itertools.islice(rows, LOOKED + request["skip"]))
    at, names = _header(head, request)
    pipe.send(b"M", json.dumps({"rows": sheet.height, "names": names, "row": first + at + 1}).encode())
    nulls = {"", *ERRORS, *request["nulls"]}
    below = (r for r in itertools.chain(head[at:], rows) if any(v != "" for v in r))
    while chunk := list(itertools.islice(below, request["rows"])):
        columns = zip(*chunk, strict=True)
        arrays = [_column([None if v in nulls else v for v in c] if c else []) for c in columns]
        kept = [(n, a) for n, a in zip(names, arrays, strict=True) if n is not None]
        if any(n is None and a.null_count < len(a) for n, a in zip(names, arrays, strict=True)):
            raise ValueError("a column with values and without a name; name it, or say names=")
        batch = pa.RecordBatch.from_arrays([a for _, a in kept], names=[n for n, _ in kept])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        pipe.send(b"B", memoryview(sink.getvalue()))
    pipe.send(b"E")


def _chosen(book: Any, asked: str | int | None) -> Any:
    names = book.sheet_names
    if asked is None:
        full = [name for name in names if book.get_sheet_by_name(name).height]
        if len(full) != 1:
            raise ValueError(f"{len(full)} sheets with values ({', '.join(full[:20])}); say one with sheet=")
        return book.get_sheet_by_name(full[0])
    if isinstance(asked, int) and 1 <= asked <= len(names):
        return book.get_sheet_by_index(asked - 1)
    if str(asked) not in names:
        raise ValueError(f"no sheet {asked!r}; there are {', '.join(names[:20])}")
    return book.get_sheet_by_name(str(asked))


def _body(sheet: Any) -> tuple[Iterator[list[Any]], int]:
    """The rows of the used part with merged cells filled, and the row it begins in, from 0."""
    start = sheet.start or (0, 0)
    merged: dict[int, list[tuple[int, int, int]]] = defaultdict(list)  # row -> last row, columns
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        merged[top - start[0]].append((bottom - start[0], left - start[1], right - start[1]))
    return _filled(sheet.iter_rows(), merged), start[0]


def _filled(rows: Iterable[list[Any]], merged: dict[int, list[tuple[int, int, int]]]) -> Iterator[list[Any]]:
    held: list[tuple[int, int, int, Any]] = []
    for number, row in enumerate(rows):
        for last, left, right in merged.get(number, ()):
            if 0 <= left < len(row):
                held.append((last, left, right, row[left]))
        held = [h for h in held if h[0] >= number]
        if held:
            row = list(row)
            for _, left, right, value in held:
                row[left : min(right + 1, len(row))] = [value] * (min(right + 1, len(row)) - left)
        yield row


def _header(head: list[list[Any]], request: dict[str, Any]) -> tuple[int, list[str | None]]:
    """(how many rows are before the first of values, the names): None for a column without one."""
    skip, given = request["skip"], request["names"]
    if not head:
        raise ValueError("an empty sheet")
    if given or request["header"] is False:
        names = list(given) or [f"column_{i + 1}" for i in range(len(head[0]))]
        return skip + bool(request["header"]), [*names, *[None] * (len(head[0]) - len(names))]
    cells = [sum(v != "" for v in row) for row in head]
    at = skip
    if not skip:
        at = next(i for i, n in enumerate(cells) if n >= WIDE * max(cells))
    if at >= len(head):
        raise ValueError(f"no row after skip={skip}")
    named = [None if v == "" else v for v in head[at]]
    if odd := [v for v in named if v is not None and not isinstance(v, str)]:
        told = f"row {at + 1} of the used cells has the value {_text(odd[0])[:40]} for a name"
        raise ValueError(f"{told}; say skip=ROWS before the header, or header=none with names=")
    texts = [v if v is None else v.strip() for v in named]
    if twice := [n for i, n in enumerate(texts) if n is not None and n in texts[:i]]:
        raise ValueError(f"two columns named {twice[0][:100]!r} (merged cells in the header?)")
    return at + 1, texts


def _column(values: list[Any]) -> pa.Array:
    """Values of one column and batch in the type all of them have."""
    kinds = {type(v) for v in values} - {type(None)}
    if kinds <= {int, float}:
        whole = all(v is None or (float(v).is_integer() and abs(v) < 2**53) for v in values)
        return pa.array([v if v is None else int(v) for v in values] if whole else values,
                        pa.int64() if whole and kinds else pa.float64() if kinds else None)  # fmt: skip
    if kinds == {datetime.date, datetime.datetime}:
        moment = datetime.datetime
        values = [moment(v.year, v.month, v.day) if type(v) is datetime.date else v for v in values]
        kinds = {moment}
    if kinds == {datetime.timedelta}:
        return pa.array(values, pa.duration("s"))
    if kinds == {datetime.time}:
        return pa.array(values, pa.time64("us")).cast(pa.time32("s"), safe=False)
    if kinds == {datetime.datetime}:
        return pa.array(values, pa.timestamp("us")).cast(pa.timestamp("s"), safe=False)
    if len(kinds) == 1:
        return pa.array(values)
    return pa.array([v if v is None else _text(v) for v in values], pa.string())


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


if __name__ == "__main__":
    serve(
        send_file,
        wrong=(calamine.CalamineError, pa.ArrowException, OSError, ValueError, TypeError, RecursionError),
    )
