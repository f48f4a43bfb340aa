"""Who belongs to whom: the key columns of related tables, read and compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.pipeline.tables import TableSpec, TablesSpec


@dataclass
class Links:
    """rows: those that are kept; parent: the parent of each. names: of the entities, where no table has
    them."""

    rows: np.ndarray
    parent: np.ndarray
    names: pa.Array


def column_of(spec: TablesSpec, name: str, dataset: Dataset, role: str, column: str) -> pa.ChunkedArray:
    """A column without missing values."""
    if column not in dataset.schema.names:
        raise DataError(
            "COLUMN",
            where=f"tables.{name}.{role}",
            found=f"no column {column!r} in {_source(spec.tables[name])}",
            expected="one of " + ", ".join(dataset.schema.names),
        )
    values = dataset.table("train", columns=[column])[column]
    if values.null_count:
        row = int(np.flatnonzero(values.is_null().to_numpy())[0])
        raise DataError(
            "NULL",
            where=_at(spec.tables[name], row, column),
            found=f"a missing {role}, one of {values.null_count}",
            expected="a value in every row",
            fix="fill or remove these rows",
        )
    return values


def _source(table: TableSpec) -> str:
    return table.source if isinstance(table.source, str) else ", ".join(table.source)


def _at(table: TableSpec, row: int, column: str) -> str:
    """Row numbers are those of ingest: the header is row 1."""
    return f"{_source(table)}:row {row + 2}:{column}"


def _text(values: pa.ChunkedArray) -> pa.Array:
    """Keys as text, so that 7, 7.0 and "7" are one key."""
    if pa.types.is_floating(values.type) and pc.all(pc.equal(pc.trunc(values), values)).as_py():
        values = values.cast(pa.int64())
    return values.cast(pa.string()).combine_chunks()


def keys_of(spec: TablesSpec, name: str, dataset: Dataset) -> pa.Array:
    """The key of every row, all different."""
    table, column = spec.tables[name], str(spec.tables[name].key)
    keys = _text(column_of(spec, name, dataset, "key", column))
    counted = pc.value_counts(keys)
    if len(counted) < len(keys):
        many = counted.filter(pc.greater(counted.field(1), 1))
        value, times = many[0]["values"].as_py(), many[0]["counts"].as_py()
        row = int(np.flatnonzero(pc.equal(keys, value).to_numpy(zero_copy_only=False))[1])
        raise DataError(
            "KEY",
            where=_at(table, row, column),
            found=f"key {value!r} for {times} rows, and {len(many)} such keys",
            expected="a different key in every row",
            fix="remove the repetitions, or name another key",
        )
    return keys


def links_of(spec: TablesSpec, name: str, dataset: Dataset, keys: dict[str, pa.Array]) -> Links:
    """Which parent each row has."""
    table = spec.tables[name]
    role = "foreign_key" if table.parent else "entity"
    column = str(table.link)
    values = _text(column_of(spec, name, dataset, role, column))
    names = keys[table.parent] if table.parent else values.unique()
    found = pc.index_in(values, names)
    rows = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
    if lost := found.null_count:
        row = int(np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))[0])
        if spec.orphans == "fail" or not len(rows):
            raise DataError(
                "ORPHAN",
                where=_at(table, row, column),
                found=f"{values[row].as_py()!r}, no key of {table.parent!r}, in one of {lost} such rows",
                expected=f"a value of {spec.tables[str(table.parent)].key!r} there",
                fix="add the parents, remove these rows, or write orphans: drop",
            )
    return Links(rows, found.drop_null().to_numpy(zero_copy_only=False).astype(np.int64), names)
