"""Structs of a table: here their parts are columns `user.city`, in files that have structs they are whole."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa


def keys_of(name: str, structs: Collection[str]) -> tuple[str, ...]:
    """`user.home.city` -> (user, home, city), if user and user.home are structs."""
    keys, begin = list[str](), 0
    for end in (i for i, mark in enumerate(name) if mark == "."):
        if name[:end] in structs:
            keys.append(name[begin:end])
            begin = end + 1
    return (*keys, name[begin:])


def nested(table: pa.Table, structs: Collection[str]) -> pa.Table:
    """A table with the parts of each struct as one column, where the first of them was."""
    if not structs:
        return table
    structs = frozenset(structs)
    columns = [
        (keys_of(n, structs), c.combine_chunks())
        for n, c in zip(table.column_names, table.columns, strict=True)
    ]
    fields, arrays = _together(columns)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=table.schema.metadata))


def _together(columns: list[tuple[tuple[str, ...], pa.Array]]) -> tuple[list[pa.Field], list[pa.Array]]:
    found: dict[str, list[tuple[tuple[str, ...], pa.Array]]] = {}
    for keys, values in columns:
        found.setdefault(keys[0], []).append((keys[1:], values))
    fields, arrays = list[pa.Field](), list[pa.Array]()
    for name, parts in found.items():
        values = parts[0][1]
        if parts[0][0]:
            inner_fields, inner = _together(parts)
            values = pa.StructArray.from_arrays(inner, fields=inner_fields)
        fields.append(pa.field(name, values.type))
        arrays.append(values)
    return fields, arrays
