"""Tables that belong together, read and tied by their keys: parents before children, rows in order.

Key columns of all tables and one table at a time are held in memory, and the flat forms of its kin.
"""

from __future__ import annotations

from graphlib import TopologicalSorter

import numpy as np
import pyarrow as pa

from genpipe.constraints import NUMBERS
from genpipe.dataset import Dataset
from genpipe.errors import DataError, UsageError, unknown
from genpipe.pipeline.tables import TableSpec, TablesSpec
from genpipe.schema import AnyField, Identifier, Integer, Number, Schema
from genpipe.sources.keys import holdout_mask, row_keys
from genpipe.stages.flat import Node, Order, Related, firsts, gaps, picked
from genpipe.stages.links import Links, column_of, keys_of, links_of

FEWEST = 20


def relate(spec: TablesSpec, data: dict[str, Dataset]) -> list[Related]:
    """Every table and every entity, parents before children. DataError where rows and keys do not agree."""
    keys = {name: keys_of(spec, name, data[name]) for name, t in spec.tables.items() if t.key}
    out: dict[str, Related] = {}
    links = {name: links_of(spec, name, data[name], keys) for name, t in spec.tables.items() if t.link}
    parents = TopologicalSorter({n: {t.parent} - {None} for n, t in spec.tables.items()}).static_order()
    for name in map(str, parents):
        table = spec.tables[name]
        counts = {
            c: np.bincount(links[c].parent, minlength=data[name].rows())
            for c, t in spec.tables.items()
            if t.parent == name
        }
        if table.entity:
            above = _entities(spec, name, data[name], links[name])
            out[above.node.name] = above
            table = table.model_copy(update={"parent": above.node.name})
        parent = out[table.parent] if table.parent else None
        rows = _sorted(spec, name, data[name], links[name], parent) if parent else None
        out[name] = _related(spec, name, data[name], counts, rows, parent)
    return list(out.values())


def _identifier(name: str, like: AnyField, *, made: bool) -> Identifier:
    """A column of keys: numbers from 1 on, or the strings the schema says, or sixteen hexadecimal digits."""
    if like.kind in ("integer", "number") or getattr(like, "storage", "") == "integer":
        start = getattr(like, "minimum", None) if like.kind == "identifier" else None
        return Identifier(name=name, storage="integer", minimum=(start or 1) if made else None)
    pattern = getattr(like, "pattern", None)
    pii = like.pii if like.pii != "none" else None
    if not made:
        return Identifier(name=name)
    return Identifier(name=name, pattern=pattern or (None if pii else "[0-9a-f]{16}"), pii=pii)


def _entities(spec: TablesSpec, name: str, dataset: Dataset, links: Links) -> Related:
    """The entities of a table of events, as a parent table without columns."""
    table = spec.tables[name]
    counts = np.bincount(links.parent, minlength=len(links.names))
    own = pa.table({f"children of {name}": counts})
    node = Node(
        name=f"{table.entity} of {name}",
        parent=None,
        schema_=None,
        key=_identifier(str(table.entity), dataset.schema.field(str(table.entity)), made=True),
        link=None,
        order=None,
        own=(Integer(name=f"children of {name}", minimum=0),),
        children=(name,),
        rows=len(counts),
    )
    return _top(spec, node, own, links.names)


def _held(spec: TablesSpec, keys: pa.Array) -> np.ndarray:
    return holdout_mask(row_keys(pa.RecordBatch.from_arrays([keys], names=["key"])), spec.holdout)


def _top(spec: TablesSpec, node: Node, own: pa.Table, keys: pa.Array) -> Related:
    """Rows without parents, each the beginning of a family."""
    if node.rows < FEWEST:
        raise DataError(
            "FEWROWS",
            where=node.name,
            found=f"{node.rows} rows or entities",
            expected=f"at least {FEWEST}",
            fix="a model of so few would repeat them; add data",
        )
    held, rows = _held(spec, keys), np.arange(node.rows)
    return Related(node, own, np.zeros(0, np.int64), held, pa.table({}), rows)


def _sorted(
    spec: TablesSpec, name: str, dataset: Dataset, links: Links, parent: Related
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the source in the order of their parents and among themselves, and the parent of each."""
    table, above = spec.tables[name], parent.place[links.parent]
    kept = above >= 0
    rows, above = links.rows[kept], above[kept]
    if not table.order_by:
        at = above.argsort(kind="stable")
        return rows[at], above[at]
    column_of(spec, name, dataset, "order_by", table.order_by)
    field = dataset.schema.field(table.order_by)
    if field.kind not in NUMBERS:
        raise DataError(
            "ORDER",
            where=f"tables.{name}.order_by",
            found=f"{field.name!r} is a column of {field.kind} ({field.reason})",
            expected="dates, times or numbers",
            fix="name another column, or correct its kind in a schema file",
        )
    ticks = _ticks(dataset, field)[rows]
    at = np.lexsort((ticks, above))
    return rows[at], above[at]


def _ticks(dataset: Dataset, field: AnyField) -> np.ndarray:
    return Order(field=field, gap="", low=0, high=0).ticks(dataset.table("train")[field.name])


def _related(
    spec: TablesSpec,
    name: str,
    dataset: Dataset,
    counts: dict[str, np.ndarray],
    rows: tuple[np.ndarray, np.ndarray] | None,
    parent: Related | None,
) -> Related:
    """A table with its place among the others."""
    table, schema, data = spec.tables[name], dataset.schema, dataset.table("train")
    at, above = rows if rows else (np.arange(data.num_rows), np.zeros(0, np.int64))
    _check_roles(table, name, schema)
    order, swap = None, dict[str, tuple[AnyField, pa.Array]]()
    data = picked(data, pa.array(at))
    if table.order_by and table.order_by in data.column_names:
        order, swap = _ordered(schema.field(table.order_by), data[table.order_by], above)
    roles = (table.key, table.link)
    mine = [f for f in schema.fields if f.name not in roles]
    own = [swap.get(f.name, (f, data[f.name])) for f in mine]
    for child, number in counts.items():
        own.append((Integer(name=f"children of {child}", minimum=0), pa.array(number[at])))
    key = _identifier(table.key, schema.field(table.key), made=True) if table.key else None
    node = Node(
        name=name,
        parent=parent.node.name if parent else None,
        schema_=_output(table, schema, key, parent),
        key=key,
        link=table.link,
        order=order,
        own=tuple(f for f, _ in own),
        children=tuple(counts),
        rows=len(at),
    )
    columns = pa.table({f.name: c for f, c in own})
    if order:
        columns = columns.append_column(order.field.name, data[order.field.name])
    if parent is None:
        return _top(spec, node, columns, keys_of(spec, name, dataset) if table.key else _whole(data))
    place = np.full(dataset.rows(), -1)
    place[at] = np.arange(len(at))
    told = picked(parent.handed_down(), pa.array(above))
    return Related(node, columns, above, parent.held[above], told, place)


def _whole(data: pa.Table) -> pa.Array:
    """A key for rows that have none: their content, as ingest splits such rows."""
    return pa.array(row_keys(data.combine_chunks().to_batches()[0]).astype(str))


def _ordered(
    field: AnyField, column: pa.ChunkedArray, above: np.ndarray
) -> tuple[Order, dict[str, tuple[AnyField, pa.Array]]]:
    """The order, and what is learnt in the place of its column."""
    bare = Order(field=field, gap=f"since previous {field.name}", low=0, high=0)
    ticks = bare.ticks(column)
    order = bare.model_copy(update={"low": ticks.min().item(), "high": ticks.max().item()})
    learnt: AnyField = Integer(name=order.gap, minimum=0)
    if isinstance(field, Number):
        learnt = Number(name=order.gap, minimum=0, decimals=field.decimals)
    first = firsts(above)
    found = order.rounded(gaps(ticks, first, order.low))
    order = order.model_copy(update={"widest": found[~first].max(initial=0).item()})
    return order, {field.name: (learnt, pa.array(found))}


def _output(table: TableSpec, schema: Schema, key: Identifier | None, parent: Related | None) -> Schema:
    """The schema of the source with keys that are made."""
    made: dict[str | None, AnyField] = {table.key: key} if key else {}
    if table.link and parent and parent.node.key:
        made[table.link] = _identifier(table.link, parent.node.key, made=False)
    fields = tuple(made.get(f.name, f) for f in schema.fields)
    return schema.model_copy(update={"fields": fields, "key": ()})


def _check_roles(table: TableSpec, name: str, schema: Schema) -> None:
    """Columns that keys, parents and order need cannot play another part."""
    roles = {
        "key": table.key,
        "entity" if table.entity else "foreign_key": table.link,
        "order_by": table.order_by,
    }
    for role, column in roles.items():
        if column is None:
            continue
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
