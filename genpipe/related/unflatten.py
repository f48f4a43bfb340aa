"""Related tables as the judge sees them (judge/tables.py): real from flat rows, generated from keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from genpipe.dataset import Dataset
from genpipe.errors import DataError
from genpipe.fields import AnyField
from genpipe.related.flatten import picked
from genpipe.related.judge.tables import Refers, RelatedTable, Tables, firsts, learnable, lines
from genpipe.related.levels import levels_of
from genpipe.related.nodes import Node, Order, Reference, lacks, naming


def tables_of(nodes: tuple[Node, ...], data: Mapping[str, Dataset], *splits: str) -> dict[str, RelatedTable]:
    """The flat rows of some splits as tables again. Rows are in the order of their parents, and each parent
    tells how many it has; the column they are ordered by is the sum of the differences learnt in its place.
    """
    out: dict[str, RelatedTable] = {}
    flat = {name: pa.concat_tables([d.table(split) for split in splits]) for name, d in data.items()}
    for node in nodes:
        rows, above, alone = flat[node.name], None, None
        if node.parent is not None:
            many = flat[node.parent][f"children of {node.name}"].to_numpy()
            alone = np.zeros(rows.num_rows, bool)
            if node.parentless is not None:
                alone = rows[lacks(node.parent)].to_numpy()
            above = np.full(rows.num_rows, -1)
            if many.sum() + alone.sum() != rows.num_rows:
                found = (
                    f"{rows.num_rows} rows of {' and '.join(splits)}, but parents with {many.sum()} children"
                )
                raise DataError("FLAT", where=data[node.name].uri, found=found, fix="train the tables again")
            above[~alone] = np.repeat(np.arange(len(many)), many)
        fields = _fields(node)
        columns = {f.name: rows[f.name] for f in fields if f.name in rows.column_names}
        if node.order and above is not None and node.order.gap in rows.column_names:
            columns[node.order.field.name] = _ticks(node.order, rows[node.order.gap].to_numpy(), above)
        refers = {}
        for reference in node.references:
            there = tuple(f for _, f, _ in _seen(nodes, reference))
            found_ = rows.select([f.name for f in there])
            refers[reference.column] = Refers(found_, there, np.zeros(rows.num_rows, bool))
        levels = {r.column: rows[r.level].to_numpy() for r in node.references if r.levels}
        out[node.name] = _kin(node, rows.num_rows, columns, fields, above, refers)
        out[node.name] = replace(out[node.name], alone=_some(alone), levels=levels)
    for node in nodes:
        for reference in node.references:
            many = flat[reference.table][naming(node.name, reference.column)].to_numpy()
            out[reference.table].named[node.name, reference.column] = many
    return out


def _some(alone: np.ndarray | None) -> np.ndarray | None:
    return alone if alone is not None and alone.any() else None


def _ticks(order: Order, gap: np.ndarray, above: np.ndarray) -> pa.ChunkedArray:
    """The column that orders the rows, from the differences in its place."""
    total, first = np.cumsum(gap), firsts(above)
    begin = np.maximum.accumulate(np.where(first, np.arange(len(gap)), 0))
    return pa.chunked_array([order.values(order.low + total - (total - gap)[begin])])


def _seen(nodes: tuple[Node, ...], reference: Reference) -> list[tuple[str, AnyField, str]]:
    """(table, field, column there) of what people know of a row that is named, and of its parents. The field
    is called as in a flat row.
    """
    of, name, found = {n.name: n for n in nodes}, str(reference.table), list[tuple[str, AnyField, str]]()
    told = {f.name for f in reference.fields}
    while name:
        for field in _fields(of[name]):
            called = {"name": f"{reference.column}.{name}.{field.name}", "nullable": True, "reason": ""}
            if called["name"] in told:
                found.append((name, field.model_copy(update=called), field.name))
        name = of[name].parent or ""
    return found


def _key(node: Node) -> list[str]:
    """The columns that tell the rows of a table apart."""
    return [field.name for field in node.key]


def _link(node: Node) -> list[str]:
    """The columns in which the key of the parent stands."""
    return list(node.link)


def _fields(node: Node) -> tuple[AnyField, ...]:
    """The columns people know of a table that can be compared: no keys."""
    keys = (*_link(node), *_key(node))
    return learnable(tuple(f for f in node.schema_.fields if f.name not in keys)) if node.schema_ else ()


def _kin(
    node: Node,
    rows: int,
    columns: dict[str, Any],
    fields: tuple[AnyField, ...],
    above: np.ndarray | None,
    refers: Mapping[str, Refers] | None = None,
) -> RelatedTable:
    target = node.schema_.target if node.schema_ else None
    known = tuple(f for f in fields if f.name in columns)
    order = node.order.field.name if node.order else None
    return RelatedTable(
        rows=rows,
        columns=pa.table({f.name: columns[f.name] for f in known}),
        fields=known,
        parent=node.parent,
        above=above,
        order=order if order in columns else None,
        target=target if target in columns else None,
        refers=refers or {},
    )


def kin_of(nodes: tuple[Node, ...], tables: Mapping[str, pa.Table]) -> dict[str, RelatedTable]:
    """Tables with keys, as they are delivered: whose child a row is, and what it names, its keys say."""
    out: dict[str, RelatedTable] = {}
    keys, foreign = dict[str, pa.Table](), dict[str, pa.Table]()
    for node in nodes:
        if node.schema_ is None:  # entities are known by their events alone
            events = tables[node.children[0]].select(_key(node))
            keys[node.name] = events.group_by(_key(node), use_threads=False).aggregate([])
            out[node.name] = _kin(node, keys[node.name].num_rows, {}, (), None)
            continue
        rows, above, alone = tables[node.name], None, None
        if node.parent is not None:
            above = _places(rows.select(_link(node)), keys[node.parent])
            order = np.argsort(above, kind="stable")
            rows, above = picked(rows, pa.array(order)), above[order]
            alone = ~_whole(rows.select(_link(node))) if node.parentless is not None else None
        keys[node.name], foreign[node.name] = rows.select(_key(node)), rows
        fields = _fields(node)
        columns = {f.name: rows[f.name] for f in fields}
        out[node.name] = _kin(node, rows.num_rows, columns, fields, above)
        out[node.name] = replace(out[node.name], alone=_some(alone))
    for node in nodes:
        refers, levels = dict[str, Refers](), dict[str, np.ndarray]()
        for reference in node.references:
            column, other = reference.column, reference.table
            named = foreign[node.name].select(list(reference.names))
            place = _places(named, keys[other])
            seen = _seen(nodes, reference)
            refers[column] = _looked_up(out, seen, other, place, _whole(named))
            out[other].named[node.name, column] = np.bincount(place[place >= 0], minlength=out[other].rows)
            if reference.levels or reference.before:
                levels[column] = levels_of(place)
        out[node.name] = replace(out[node.name], refers=refers, levels=levels)
    return out


def _whole(keys: pa.Table) -> np.ndarray:
    """(N,) whether all columns of a key are there."""
    out = np.ones(keys.num_rows, bool)
    for column in keys.columns:
        out &= column.is_valid().to_numpy()
    return out


def _looked_up(
    out: Tables, seen: list[tuple[str, AnyField, str]], other: str, place: np.ndarray, there: np.ndarray
) -> Refers:
    """What stands in rows that are named. place: (N,) the row of the other table, -1 for none; there: whether
    one is named at all.
    """
    at = {other: place}
    for parent, rows in lines(out, other):
        at[parent] = np.where(place >= 0, rows[place], -1)
    index = {table: pa.array(rows, mask=rows < 0) for table, rows in at.items()}
    columns = {f.name: out[table].columns[name].take(index[table]) for table, f, name in seen}
    lost = there & (place < 0)
    return Refers(pa.table(columns), tuple(f for _, f, _ in seen), lost)


def _places(foreign: pa.Table, keys: pa.Table) -> np.ndarray:
    """(N,) the row of the parent that has this key, -1 where none or more than one has it."""
    codes = []
    for mine, theirs in zip(foreign.columns, keys.columns, strict=True):
        both = pa.concat_arrays([*theirs.chunks, *mine.cast(theirs.type).chunks])
        codes.append(both.dictionary_encode().indices.fill_null(-1).to_numpy())
    number = np.unique(np.stack(codes, 1), axis=0, return_inverse=True)[1].ravel()
    parents, size = number[: keys.num_rows], int(number.max(initial=0)) + 1
    place = np.full(size, -1)
    place[parents] = np.arange(len(parents))
    place[np.bincount(parents, minlength=size) > 1] = -1
    return place[number[keys.num_rows :]]
