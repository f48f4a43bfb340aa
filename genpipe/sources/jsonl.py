"""JSON Lines as a stream of batches; `row` in a message is the line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.json as pajson

from genpipe.errors import DataError
from genpipe.sources.base import Piece
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.stream import Checked


def pieces(file: File, block: int) -> Iterator[Piece]:
    """JSON Lines: one object a line; `row` is the line."""
    checked, rest, line = Checked(file), b"", 1
    while True:
        chunk = checked.read(block)
        rest += chunk
        cut = rest.rfind(b"\n") + 1 if chunk else len(rest)
        piece, rest = rest[:cut], rest[cut:]
        if piece.strip():
            yield partial(_parse, piece, Place(file.uri, line))
        line += piece.count(b"\n")
        if not chunk:
            break


def _parse(piece: bytes, place: Place) -> tuple[pa.RecordBatch, Place]:
    whole = pajson.ReadOptions(block_size=len(piece) + 1, use_threads=False)
    try:
        table = pajson.read_json(pa.BufferReader(piece), read_options=whole)
        dated = [f.name for f in table.schema if pa.types.is_timestamp(f.type)]
        if dated:  # Arrow takes texts for times unasked; here they are typed like those of a CSV
            explicit = pajson.ParseOptions(explicit_schema=pa.schema([(n, pa.string()) for n in dated]))
            again = pajson.read_json(pa.BufferReader(piece), read_options=whole, parse_options=explicit)
            table = again.select(table.column_names)
    except pa.ArrowException as error:
        told = str(error).splitlines()[0]
        row = re.search(r"in row (\d+)", told)
        code = "ENCODING" if "UTF" in told or "encoding" in told.lower() else "JSON"
        raise DataError(
            code,
            where=f"{place.uri}:row {place.row + (int(row[1]) if row else 0)}",
            found=told,
            expected="one JSON object a line, each key of one type",
        ) from None
    batches = table.combine_chunks().to_batches()
    return (batches[0] if batches else pa.RecordBatch.from_pydict({})), place
