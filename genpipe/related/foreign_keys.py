"""Who belongs to whom: the key columns of related tables, read and compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.related.spec import TableSpec, TablesSpec


@dataclass
class Links:
    """rows: those that are kept; parent: the parent of each, -1 without one. names: of the entities, where no
    table has them. named: reference -> the row each kept row names, -1 where it names none.
    """

    rows: np.ndarray
    parent: np.ndarray
    names: pa.Array
    named: dict[str, np.ndarray]


def column_of(
    spec: TablesSpec, name: str, dataset: Dataset, role: str, column: str, *, missing: bool = False
) -> pa.ChunkedArray:
    """A column, without missing values unless these may be."""
    if column not in dataset.schema.names:
        raise DataError(
            "COLUMN",
            where=f"tables.{name}.{role}",
            found=f"no column {column!r} in {_source(spec.tables[name])}",
            expected="one of " + ", ".join(dataset.schema.names),
        )
    values = dataset.table("train", columns=[column])[column]
    if values.null_count and not missing:
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


def _together(
    spec: TablesSpec,
    name: str,
    dataset: Dataset,
    role: str,
    columns: tuple[str, ...],
    *,
    missing: bool = False,
) -> pa.Array:
    """The columns of a key as one text, different where one of them is, missing where one of them is."""
    parts = [_text(column_of(spec, name, dataset, role, column, missing=missing)) for column in columns]
    if len(parts) == 1:
        return parts[0]
    mark = "\x1f"
    plain = [pc.replace_substring(p, pattern=mark, replacement=mark * 2) for p in parts]
    return pc.binary_join_element_wise(*plain, mark + ",")


def _shown(text: str, columns: tuple[str, ...]) -> str:
    """A key as it stands in the columns."""
    if len(columns) == 1:
        return repr(text)
    return repr(tuple(part.replace("\x1f\x1f", "\x1f") for part in text.split("\x1f,")))


def keys_of(spec: TablesSpec, name: str, dataset: Dataset) -> pa.Array:
    """The key of every row, all different."""
    table, columns = spec.tables[name], spec.tables[name].keys
    keys = _together(spec, name, dataset, "key", columns)
    counted = pc.value_counts(keys)
    if len(counted) < len(keys):
        many = counted.filter(pc.greater(counted.field(1), 1))
        value, times = many[0]["values"].as_py(), many[0]["counts"].as_py()
        row = int(np.flatnonzero(pc.equal(keys, value).to_numpy(zero_copy_only=False))[1])
        raise DataError(
            "KEY",
            where=_at(table, row, ", ".join(columns)),
            found=f"key {_shown(value, columns)} for {times} rows, and {len(many)} such keys",
            expected="a different key in every row",
            fix="remove the repetitions, or name another key",
        )
    return keys


def links_of(
    spec: TablesSpec, name: str, dataset: Dataset, keys: dict[str, pa.Array], others: dict[str, Links]
) -> Links:
    """Which parent each row has, and which rows it names. others: the links of the tables these are in. With
    `orphans: drop` a row goes with its parent, and with a row it names.
    """
    table, count = spec.tables[name], dataset.rows()
    found: dict[str, np.ndarray] = {}
    kept = np.ones(count, bool)
    if table.parent:
        values = _together(spec, name, dataset, "foreign_key", table.link, missing=True)
        _some(values, f"tables.{name}.foreign_key", table.parent, "leave parent and foreign_key out")
        found[""] = _found(spec, name, values, table.link, table.parent, keys[table.parent])
        none = values.is_null().to_numpy(zero_copy_only=False)
        kept &= none | ((found[""] >= 0) & _there(others[table.parent], found[""], len(keys[table.parent])))
    for label, other in table.references.items():
        values = _together(spec, name, dataset, "references", table.named[label], missing=True)
        where = f"tables.{name}.references.{label}"
        _some(values, where, other, "leave the column out of references")
        found[label] = _found(spec, name, values, table.named[label], other, keys[other])
        if other in others:  # those that are chosen late name nothing where that is dropped
            none = values.is_null().to_numpy(zero_copy_only=False)
            there = (found[label] >= 0) & _there(others[other], found[label], len(keys[other]))
            kept &= none | there
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise DataError(
            "ORPHAN",
            where=f"tables.{name}",
            found=f"none of {count} rows whose keys are all there",
            expected="rows of the tables it belongs to",
            fix="add the parents",
        )
    parent, names = found.pop("", np.zeros(count, np.int64)), pa.array([], pa.string())
    if table.entity:
        values = _together(spec, name, dataset, "entity", table.link)
        names = values.take(pa.array(rows)).unique()
        parent = pc.index_in(values, names).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return Links(rows, parent[rows], names, {c: named[rows] for c, named in found.items()})


def _some(values: pa.Array, where: str, other: str, fix: str) -> None:
    if values.null_count == len(values):
        found = "no value in any row"
        raise DataError("REFERENCE", where=where, found=found, expected=f"keys of {other!r}", fix=fix)


def _there(links: Links, rows: np.ndarray, count: int) -> np.ndarray:
    """(N,) whether these rows of another table, of so many, are kept."""
    kept = np.zeros(count + 1, bool)
    kept[links.rows] = True
    return kept[rows]


def _found(
    spec: TablesSpec, name: str, values: pa.Array, columns: tuple[str, ...], other: str, keys: pa.Array
) -> np.ndarray:
    """(N,) the row of the other table whose key each value is, -1 where there is none or nothing."""
    found = pc.index_in(values, keys)
    lost = pc.and_(found.is_null(), values.is_valid()).to_numpy(zero_copy_only=False)
    if lost.any() and (spec.orphans == "fail" or lost.all()):
        row = int(np.flatnonzero(lost)[0])
        raise DataError(
            "ORPHAN",
            where=_at(spec.tables[name], row, ", ".join(columns)),
            found=f"{_shown(values[row].as_py(), columns)}, no key of {other!r}, "
            f"in one of {lost.sum()} such rows",
            expected=f"a value of {', '.join(map(repr, spec.tables[other].keys))} there",
            fix="add the parents, remove these rows, or write orphans: drop"
            if columns == spec.tables[name].link
            else "add these rows, empty the value, or write orphans: drop",
        )
    return found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
