"""The columns of a batch that are taken: those asked for, and the parts of what is nested, `user.city`."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from genpipe.errors import DataError, unknown
from genpipe.sources.base import Piece
from genpipe.sources.columns import Place
from genpipe.sources.files import File
from genpipe.sources.limits import MAX_DEPTH, beyond, check_names

STRUCTS = b"genpipe.structs"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


def flat(piece: Piece) -> tuple[pa.RecordBatch, Place]:
    """The batch of a piece with a column for each part of a struct."""
    batch, place = piece()
    if not any(pa.types.is_struct(kind) for kind in batch.schema.types):
        return batch, place
    found: dict[str, pa.Array] = {}
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        for inner, part in _parts(name, values, place, 0):
            if inner in found:
                raise DataError(
                    "DUPCOL",
                    where=place.uri,
                    found=f"a column {inner!r} beside a part of that name",
                    expected="different names",
                    fix="rename one of them",
                )
            found[inner] = part
    check_names(found, place.uri)
    told = {STRUCTS: json.dumps(_structs(batch.schema)).encode()}
    made = pa.RecordBatch.from_arrays(list(found.values()), names=list(found))
    return made.replace_schema_metadata(told), place


def structs_of(batch: pa.RecordBatch) -> set[str]:
    """The structs whose parts are columns of a batch that `flat` gave."""
    told = (batch.schema.metadata or {}).get(STRUCTS)
    return set(json.loads(told)) if told else set()


def _structs(fields: Iterable[pa.Field], before: str = "") -> list[str]:
    found = list[str]()
    for field in fields:
        if pa.types.is_struct(field.type) and field.type.num_fields:
            found += [f"{before}{field.name}", *_structs(field.type, f"{before}{field.name}.")]
    return found


def _parts(name: str, values: pa.Array, place: Place, depth: int) -> list[tuple[str, pa.Array]]:
    if depth > MAX_DEPTH:
        raise beyond(place.uri, "structs nested deeper than that", str(MAX_DEPTH), "flatten them")
    if not pa.types.is_struct(values.type) or values.type.num_fields == 0:
        return [(name, values)]
    inner = [(f"{name}.{field.name}", pc.struct_field(values, [i])) for i, field in enumerate(values.type)]
    return [part for n, v in inner for part in _parts(n, v, place, depth + 1)]


def folder_columns(file: File) -> dict[str, str | None]:
    """The columns that folders hold, as Hive and Spark write them: `year=2024/city=Ulm/part.parquet`."""
    found = dict[str, str | None]()
    for folder in file.relative.split("/")[:-1]:
        name, mark, value = folder.partition("=")
        if mark and name:
            found[unquote(name)] = None if value == NO_VALUE else unquote(value)
    return found


def with_folders(piece: Piece, found: Mapping[str, str | None]) -> tuple[pa.RecordBatch, Place]:
    """The batch of a piece with the columns of its folders, but for those that it has itself."""
    batch, place = piece()
    for name, value in found.items():
        if name not in batch.schema.names:
            column = pa.repeat(pa.scalar(value, pa.string()), batch.num_rows)
            batch = batch.append_column(name, column)
    return batch, place


def is_taken(name: str, columns: Collection[str], drop: Collection[str]) -> bool:
    """columns: to take, none = all; drop: to leave out. Each names a column, or all the parts of one."""
    named = {*within(name)}
    return (not columns or not named.isdisjoint(columns)) and named.isdisjoint(drop)


def within(name: str) -> Iterator[str]:
    """The name, and those of what it is a part of: user.home.city, user.home, user."""
    yield name
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def check_taken(names: Collection[str], columns: Collection[str], drop: Collection[str]) -> None:
    """columns= and drop= name what is there."""
    known = {part for name in names for part in within(name)}
    for option, wanted in (("columns", columns), ("drop", drop)):
        for name in wanted:
            if name not in known:
                raise unknown("column", name, sorted(known), where=option)
