"""Columns that are keys: what they become in the output, and what else they cannot be."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from genpipe.errors import DataError, UsageError, unknown
from genpipe.fields import AnyField, Identifier
from genpipe.related.flatten import firsts
from genpipe.related.nodes import Node
from genpipe.related.spec import TableSpec
from genpipe.schema import Schema

MOSTLY = 0.9  # of parents, or rows: a key that is not quite regular is made so


def identifier(name: str, like: AnyField, *, made: bool) -> Identifier:
    """A column of keys: numbers from 1 on, or the strings the schema says, or sixteen hexadecimal digits."""
    if like.kind in ("integer", "number") or getattr(like, "storage", "") == "integer":
        start = getattr(like, "minimum", None) if like.kind == "identifier" else None
        return Identifier(name=name, storage="integer", minimum=(start or 1) if made else None)
    pattern = getattr(like, "pattern", None)
    pii = like.pii if like.pii != "none" else None
    if not made:
        return Identifier(name=name)
    return Identifier(name=name, pattern=pattern or (None if pii else "[0-9a-f]{16}"), pii=pii)


def key_of(
    table: TableSpec, schema: Schema, least: dict[str, int], nodes: dict[str, Node], parent: Node | None
) -> tuple[Identifier, ...]:
    """The columns of a key. Those of the parent's key are its; the others are made anew, or number the rows
    of a parent where the parent's key is all in this one. least: such columns, and where they begin.
    """
    above = dict(zip(table.link, parent.key if parent else (), strict=False))
    above |= like_named(table, nodes)
    return tuple(
        identifier(c, above[c], made=False)
        if c in above
        else identifier(c, schema.field(c), made=c not in least)
        for c in table.keys
    )


def check_parts(
    table: TableSpec, name: str, data: pa.Table, least: dict[str, int], above: np.ndarray
) -> None:
    """Parts of a key of several columns are made, so what they say of a row would be lost: they must number
    the rows of a parent or be different in every row. data: rows in the order of `above`, (N,) their parents.
    """
    for column in table.keys if len(table.keys) > 1 else ():
        if column in (*table.link, *table.naming):
            continue
        values = data[column]
        if column in least:
            begin = np.flatnonzero(firsts(above))
            whole = values.to_numpy()
            low, high = np.minimum.reduceat(whole, begin), np.maximum.reduceat(whole, begin)
            good = (low == least[column]) & (high - low + 1 == np.diff(np.append(begin, len(above))))
            share, expected = float(good.mean()), f"{least[column]}, {least[column] + 1}, .. in each parent"
        else:
            share = len(values.unique()) / max(1, len(values))
            expected = "a different value in each row, or all columns of the foreign key beside it"
        if share < MOSTLY:
            raise DataError(
                "KEY",
                where=f"tables.{name}.key",
                found=f"{column!r}, which tells more than the rows apart ({values[0].as_py()}, ..)",
                expected=expected,
                fix="leave it out of key: then it is learnt; or give it a table, the parent of this one",
            )


def like_named(table: TableSpec, nodes: dict[str, Node]) -> dict[str, Identifier]:
    """Column of a reference -> the column of the key it holds, of the tables that are known."""
    return {
        column: like
        for label, other in table.references.items()
        if other in nodes
        for column, like in zip(table.named[label], nodes[other].key, strict=True)
    }


def output(
    table: TableSpec,
    schema: Schema,
    key: tuple[Identifier, ...],
    nodes: dict[str, Node],
    parent: Node | None,
    *,
    lonely: bool = False,
) -> Schema:
    """The schema of the source with keys that are made. nodes: the tables that are referred to. lonely: some
    rows have no parent.
    """
    made: dict[str, AnyField] = {
        column: identifier(column, like, made=False).model_copy(
            update={"nullable": schema.field(column).nullable}
        )
        for column, like in like_named(table, nodes).items()
    }
    above = zip(table.link, parent.key if parent else (), strict=True)
    none = {"nullable": True} if lonely else {}
    made |= {column: identifier(column, like, made=False).model_copy(update=none) for column, like in above}
    made |= {field.name: field for field in key}
    fields = tuple(made.get(f.name, f) for f in schema.fields)
    return schema.model_copy(update={"fields": fields, "key": ()})


def check_roles(table: TableSpec, name: str, schema: Schema) -> None:
    """Columns that keys, parents and order need cannot play another part."""
    roles = [("key", column) for column in table.keys]
    roles += [("entity" if table.entity else "foreign_key", column) for column in table.link]
    roles += [("references", column) for column in table.naming]
    roles += [("order_by", table.order_by)] if table.order_by else []
    for role, column in roles:
        if column not in schema.names:
            raise unknown("column", column, schema.names, where=f"tables.{name}.{role}")
        if column == schema.target:
            raise UsageError(
                "TARGET",
                where=f"tables.{name}.{role}",
                found=f"{column!r}, which is the target of its schema file, too",
                expected="another column: keys and order are not predicted",
            )
        for constraint in schema.constraints:
            if column in constraint.names:
                raise UsageError(
                    "CONSTRAINT",
                    where=f"tables.{name}.{role}",
                    found=f"{column!r}, of which a constraint of its schema file speaks ({constraint})",
                    expected="constraints between other columns",
                    fix="remove the constraint, or leave order_by out" if role == "order_by" else "",
                )
