"""JSON Lines, or one array of objects, as a stream of batches; `row` in a message is the line or object.

Arrow's parser recurses into what is nested and gives every key a place in every row, so both are counted
before it is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from genpipe.errors import DataError
from genpipe.sources.base import Options, Piece
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.limits import MAX_DEPTH, MAX_RATIO, beyond, check_names
from genpipe.sources.stream import Checked
from genpipe.sources.tabular.json_array import Lines

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
KEYS = re.compile(
    rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"\s*+:|' + STRING, re.DOTALL
)  # "" for texts that are no keys
STRINGS = re.compile(STRING, re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
SPACED = (b" :", b"\t:", b"\r:", b"\n:")
FEW_KEYS = 20  # looking for each of so many is faster than looking at all
CELL = 8  # bytes of a value that is missing in a row
NEWLINE = b"\n"


def pieces(file: File, options: Options) -> Iterator[Piece]:
    """JSON Lines: one object a line; `row` is the line."""
    checked, rest, line, cells = Lines(Checked(file, memory=options.memory), options), b"", 1, 0
    while True:
        chunk = checked.read(options.block)
        rest += chunk
        cut = rest.rfind(b"\n") + 1 if chunk else len(rest)
        piece, rest = rest[:cut], rest[cut:]
        if len(rest) > options.longest:
            found, fix = f"a line of more than {options.longest} bytes", "raise memory=, or correct the line"
            allowed = f"{options.longest} with memory={options.memory}"
            raise beyond(f"{file.uri}:row {line + piece.count(NEWLINE)}", found, allowed, fix)
        if piece.strip():
            place = Place(file.uri, line)
            keys = _check(piece, place)
            objects = piece.count(b"{")
            cells += keys * objects
            if cells * CELL > max(options.memory, MAX_RATIO * checked.total):
                found = f"{objects} objects with {keys} different keys, nearly all of them missing in each"
                allowed = f"memory={options.memory}, or {MAX_RATIO} times the file, for keys times rows"
                raise beyond(f"{file.uri}:row {line}", found, allowed, "write rows of (row, key, value)")
            yield from _parts(piece, place, max(1, options.part // CELL // max(keys, 1)), objects)
        line += piece.count(NEWLINE)
        if not chunk:
            break


def _parts(piece: bytes, place: Place, rows: int, objects: int) -> Iterator[Piece]:
    """The piece, cut where many keys would make much of few lines."""
    if objects <= rows:
        yield partial(_parse, piece, place)
        return
    lines = piece.splitlines(keepends=True)
    for first in range(0, len(lines), rows):
        some = b"".join(lines[first : first + rows])
        if some.strip():
            yield partial(_parse, some, Place(place.uri, place.row + first))


def _check(piece: bytes, place: Place) -> int:
    """How many different keys there are; refuses too many, and what is nested too deep."""
    if not _flat(piece):
        brackets = np.frombuffer(STRINGS.sub(b"", piece).translate(None, NO_BRACKETS), np.uint8)
        depth = np.cumsum(np.where(brackets | 32 == ord("{"), 1, -1))  # the bit tells [ from { and ] from }
        if depth.max(initial=0) > MAX_DEPTH:
            found = f"objects or lists nested {depth.max()} deep"
            raise beyond(
                f"{place.uri}:row {place.row}", found, str(MAX_DEPTH), "flatten them before ingesting"
            )
    keys, where = _keys(piece), f"{place.uri}:row {place.row}"
    try:
        check_names([key.decode() for key in keys], where, what="keys")
    except UnicodeDecodeError as error:
        found = f"a key, here or in one of the next rows, with the byte 0x{error.object[error.start]:02x}"
        raise DataError("ENCODING", where=where, found=found, expected="UTF-8 text") from None
    return len(keys)


def _flat(piece: bytes) -> bool:
    """Surely no object within another: each begins after `}` and a line end, which no text may hold."""
    ends = (piece.count(b"}\n{"), piece.count(b"}\r\n{"))
    return piece.startswith(b"{") and b"[" not in piece and piece.count(b"{") - 1 in ends


def _keys(piece: bytes) -> set[bytes]:
    """The different keys as written, of all depths; where all lines have those of the first, by counting."""
    end = piece.find(NEWLINE)
    first = set(KEYS.findall(piece, 0, end if end >= 0 else len(piece))) - {b""}
    if len(first) <= FEW_KEYS and not any(space in piece for space in SPACED):
        known = sum(piece.count(b'"' + key + b'":') for key in first if b"\\" not in key)
        if known == piece.count(b'":'):
            return first
    return set(KEYS.findall(piece)) - {b""}


def _parse(piece: bytes, place: Place) -> tuple[pa.RecordBatch, Place]:
    first = piece.lstrip()[:20]
    if not first.startswith(b"{"):  # Arrow's parser dies of a first `null`
        raise DataError(
            "JSON",
            where=f"{place.uri}:row {place.row}",
            found=f"{first.decode(errors='replace')!r}, no object",
            expected="one JSON object a line",
        )
    whole = pajson.ReadOptions(block_size=len(piece) + 1, use_threads=False)
    try:
        table = pajson.read_json(pa.BufferReader(piece), read_options=whole)
        dated = [f.name for f in table.schema if pa.types.is_timestamp(f.type)]
        if dated:  # Arrow takes texts for times unasked; here they are typed like those of a CSV
            explicit = pajson.ParseOptions(explicit_schema=pa.schema([(n, pa.string()) for n in dated]))
            again = pajson.read_json(pa.BufferReader(piece), read_options=whole, parse_options=explicit)
            table = again.select(table.column_names)
        table.validate(full=True)  # the parser takes any bytes for text
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the second: of names, which pyarrow decodes
        told = str(error).splitlines()[0][:300]
        row = re.search(r"(?:in row|string index) (\d+)", told)
        code = "ENCODING" if "UTF" in told or "encoding" in told.lower() else "JSON"
        raise DataError(
            code,
            where=f"{place.uri}:row {place.row + (int(row[1]) if row else 0)}",
            found=told,
            expected="one JSON object a line, each key of one type",
        ) from None
    batches = table.combine_chunks().to_batches()
    return (batches[0] if batches else pa.RecordBatch.from_pydict({})), place
